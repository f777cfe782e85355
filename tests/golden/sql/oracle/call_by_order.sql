BEGIN usp_x(:p0, :p1); END;

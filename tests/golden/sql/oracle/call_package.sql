BEGIN HIS.PKG_YY.P_LOCK(A_ID => :p0, IO_NO => :p1, O_CODE => :p2, O_MSG => :p3, O_ROWS => :p4); END;

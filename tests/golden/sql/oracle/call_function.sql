BEGIN :p1 := pkg_yy.f_fee(a_id => :p0, o => :p2); END;

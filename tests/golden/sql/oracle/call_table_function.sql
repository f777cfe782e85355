SELECT * FROM TABLE(his.f_slots(a => :p0, b => :p1))

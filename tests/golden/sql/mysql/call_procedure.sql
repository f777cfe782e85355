SET @his160_1 = %(p1)s;
CALL `phis`.`usp_lock`(%(p0)s, @his160_1, @his160_2, @his160_3);
SELECT @his160_1, CAST(@his160_2 AS DATETIME(6)), CAST(@his160_3 AS DECIMAL(10, 2))

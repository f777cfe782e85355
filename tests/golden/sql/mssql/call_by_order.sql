DECLARE @his160_1 varchar(max);
EXEC [usp_gh] ?, @his160_1 OUTPUT;
SELECT @his160_1 AS his160_1;

DECLARE @his160_r int;
EXEC @his160_r = [dbo].[usp gh];
SELECT @his160_r AS his160_r;

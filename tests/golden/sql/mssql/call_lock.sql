DECLARE @his160_2 int = ?, @his160_r int, @his160_4 nvarchar(200), @his160_5 numeric(12, 2);
EXEC @his160_r = [dbo].[usp_yy_lockno] @hyid = ?, @ddh = ?, @xh = @his160_2 OUTPUT, @msg = @his160_4 OUTPUT, @je = @his160_5 OUTPUT;
SELECT @his160_2 AS his160_2, @his160_r AS his160_r, @his160_4 AS his160_4, @his160_5 AS his160_5;

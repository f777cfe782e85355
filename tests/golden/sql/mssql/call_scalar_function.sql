SELECT [dbo].[fn_fee](?) AS his160_r

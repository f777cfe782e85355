SELECT * FROM [dbo].[fn_slots](?, ?)

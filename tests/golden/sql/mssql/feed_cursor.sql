SELECT SYSDATETIME(), (SELECT MIN(a.transaction_begin_time) FROM sys.dm_tran_active_transactions a JOIN sys.dm_tran_database_transactions d ON d.transaction_id = a.transaction_id WHERE d.database_id = DB_ID() AND a.transaction_type <> 2);
SELECT DISTINCT reg_id FROM dbo.reg WITH (READCOMMITTEDLOCK) WHERE rv > :after AND (del_flag = '0')

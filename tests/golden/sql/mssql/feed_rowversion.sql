SELECT MIN_ACTIVE_ROWVERSION();
SELECT DISTINCT reg_id FROM dbo.reg WHERE rv >= :after AND rv < :bound AND (del_flag = '0')

SELECT sys.fn_cdc_get_min_lsn(:instance), sys.fn_cdc_get_max_lsn();
SELECT DISTINCT c.reg_id FROM cdc.fn_cdc_get_all_changes_dbo_reg(sys.fn_cdc_increment_lsn(:lsn), :high, N'all update old') AS c

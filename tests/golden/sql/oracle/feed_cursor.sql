SELECT SYSDATE, (SELECT MIN(start_date) FROM gv$transaction) FROM DUAL;
SELECT DISTINCT reg_id FROM his.reg WHERE rv > :after AND (del_flag = '0')

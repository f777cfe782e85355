-- login
SELECT SYS_CONTEXT('USERENV', 'SESSION_USER'), SYS_CONTEXT('USERENV', 'DB_NAME'), SYS_CONTEXT('USERENV', 'CURRENT_SCHEMA'), p.value FROM nls_database_parameters p WHERE p.parameter = 'NLS_CHARACTERSET';

-- powers
SELECT granted_role FROM user_role_privs WHERE granted_role IN ('DBA', 'IMP_FULL_DATABASE', 'EXP_FULL_DATABASE') UNION ALL SELECT privilege FROM session_privs WHERE privilege IN ('SELECT ANY TABLE', 'UPDATE ANY TABLE', 'DELETE ANY TABLE', 'INSERT ANY TABLE', 'DROP ANY TABLE', 'EXECUTE ANY PROCEDURE', 'ALTER SYSTEM');

-- tables
SELECT o.owner, o.object_name, CASE o.object_type WHEN 'VIEW' THEN 'view' ELSE 'table' END, c.comments FROM all_objects o LEFT JOIN all_tab_comments c ON c.owner = o.owner AND c.table_name = o.object_name WHERE o.object_type IN ('TABLE', 'VIEW') AND o.owner NOT IN ('SYS', 'SYSTEM', 'OUTLN', 'DBSNMP', 'XDB', 'CTXSYS', 'MDSYS', 'ORDSYS', 'ORDDATA', 'WMSYS', 'EXFSYS', 'OLAPSYS', 'APPQOSSYS', 'GSMADMIN_INTERNAL', 'LBACSYS', 'DVSYS', 'AUDSYS', 'OJVMSYS', 'PUBLIC') UNION ALL SELECT CASE WHEN s.owner = 'PUBLIC' THEN SYS_CONTEXT('USERENV', 'CURRENT_SCHEMA') ELSE s.owner END, s.synonym_name, 'synonym', s.table_owner || '.' || s.table_name FROM all_synonyms s WHERE s.table_owner NOT IN ('SYS', 'SYSTEM', 'OUTLN', 'DBSNMP', 'XDB', 'CTXSYS', 'MDSYS', 'ORDSYS', 'ORDDATA', 'WMSYS', 'EXFSYS', 'OLAPSYS', 'APPQOSSYS', 'GSMADMIN_INTERNAL', 'LBACSYS', 'DVSYS', 'AUDSYS', 'OJVMSYS', 'PUBLIC') ORDER BY 1, 2;

-- columns
SELECT c.owner, c.table_name, c.column_name, c.data_type || CASE WHEN c.data_type LIKE '%CHAR%' THEN '(' || c.char_length || ')' WHEN c.data_type = 'NUMBER' AND c.data_precision IS NOT NULL THEN '(' || c.data_precision || ',' || c.data_scale || ')' ELSE '' END, CASE c.nullable WHEN 'Y' THEN 1 ELSE 0 END, m.comments FROM all_tab_columns c LEFT JOIN all_col_comments m ON m.owner = c.owner AND m.table_name = c.table_name AND m.column_name = c.column_name WHERE c.owner NOT IN ('SYS', 'SYSTEM', 'OUTLN', 'DBSNMP', 'XDB', 'CTXSYS', 'MDSYS', 'ORDSYS', 'ORDDATA', 'WMSYS', 'EXFSYS', 'OLAPSYS', 'APPQOSSYS', 'GSMADMIN_INTERNAL', 'LBACSYS', 'DVSYS', 'AUDSYS', 'OJVMSYS', 'PUBLIC') ORDER BY c.owner, c.table_name, c.column_id;

-- keys
SELECT k.owner, k.table_name, c.column_name FROM all_constraints k JOIN all_cons_columns c ON c.owner = k.owner AND c.constraint_name = k.constraint_name WHERE k.constraint_type = 'P' AND k.owner NOT IN ('SYS', 'SYSTEM', 'OUTLN', 'DBSNMP', 'XDB', 'CTXSYS', 'MDSYS', 'ORDSYS', 'ORDDATA', 'WMSYS', 'EXFSYS', 'OLAPSYS', 'APPQOSSYS', 'GSMADMIN_INTERNAL', 'LBACSYS', 'DVSYS', 'AUDSYS', 'OJVMSYS', 'PUBLIC') ORDER BY k.owner, k.table_name, c.position;

-- indexes
SELECT i.table_owner, i.table_name, i.index_name, CASE i.uniqueness WHEN 'UNIQUE' THEN 1 ELSE 0 END, c.column_name FROM all_indexes i JOIN all_ind_columns c ON c.index_owner = i.owner AND c.index_name = i.index_name WHERE i.table_owner NOT IN ('SYS', 'SYSTEM', 'OUTLN', 'DBSNMP', 'XDB', 'CTXSYS', 'MDSYS', 'ORDSYS', 'ORDDATA', 'WMSYS', 'EXFSYS', 'OLAPSYS', 'APPQOSSYS', 'GSMADMIN_INTERNAL', 'LBACSYS', 'DVSYS', 'AUDSYS', 'OJVMSYS', 'PUBLIC') ORDER BY i.table_owner, i.table_name, i.index_name, c.column_position;

-- routines
SELECT CASE WHEN p.procedure_name IS NULL THEN p.owner ELSE p.owner || '.' || p.object_name END, COALESCE(p.procedure_name, p.object_name), p.subprogram_id || '/' || COALESCE(p.overload, '0'), CASE WHEN EXISTS (SELECT 1 FROM all_arguments a WHERE a.object_id = p.object_id AND a.subprogram_id = p.subprogram_id AND a.position = 0 AND a.data_level = 0) THEN 'function' ELSE 'procedure' END, '', CASE p.authid WHEN 'CURRENT_USER' THEN 1 ELSE 0 END, '', '' FROM all_procedures p WHERE p.object_type IN ('PROCEDURE', 'FUNCTION', 'PACKAGE') AND (p.object_type <> 'PACKAGE' OR p.procedure_name IS NOT NULL) AND p.owner NOT IN ('SYS', 'SYSTEM', 'OUTLN', 'DBSNMP', 'XDB', 'CTXSYS', 'MDSYS', 'ORDSYS', 'ORDDATA', 'WMSYS', 'EXFSYS', 'OLAPSYS', 'APPQOSSYS', 'GSMADMIN_INTERNAL', 'LBACSYS', 'DVSYS', 'AUDSYS', 'OJVMSYS', 'PUBLIC') ORDER BY 1, 2, 3;

-- parameters
SELECT CASE WHEN a.package_name IS NULL THEN a.owner ELSE a.owner || '.' || a.package_name END, a.object_name, a.subprogram_id || '/' || COALESCE(a.overload, '0'), a.argument_name, CASE WHEN a.position = 0 THEN 'return' WHEN a.in_out = 'IN/OUT' THEN 'inout' ELSE LOWER(a.in_out) END, a.data_type, CASE a.defaulted WHEN 'Y' THEN 1 ELSE 0 END FROM all_arguments a WHERE a.data_level = 0 AND a.data_type IS NOT NULL AND a.owner NOT IN ('SYS', 'SYSTEM', 'OUTLN', 'DBSNMP', 'XDB', 'CTXSYS', 'MDSYS', 'ORDSYS', 'ORDDATA', 'WMSYS', 'EXFSYS', 'OLAPSYS', 'APPQOSSYS', 'GSMADMIN_INTERNAL', 'LBACSYS', 'DVSYS', 'AUDSYS', 'OJVMSYS', 'PUBLIC') ORDER BY a.owner, a.package_name, a.object_name, a.subprogram_id, a.position;

-- rights
SELECT t.table_schema, t.table_name, t.privilege FROM all_tab_privs t WHERE t.grantee IN (SELECT SYS_CONTEXT('USERENV', 'SESSION_USER') FROM dual UNION ALL SELECT role FROM session_roles UNION ALL SELECT 'PUBLIC' FROM dual) AND t.table_schema NOT IN ('SYS', 'SYSTEM', 'OUTLN', 'DBSNMP', 'XDB', 'CTXSYS', 'MDSYS', 'ORDSYS', 'ORDDATA', 'WMSYS', 'EXFSYS', 'OLAPSYS', 'APPQOSSYS', 'GSMADMIN_INTERNAL', 'LBACSYS', 'DVSYS', 'AUDSYS', 'OJVMSYS', 'PUBLIC') UNION ALL SELECT o.owner, o.object_name, r.name FROM all_objects o CROSS JOIN (SELECT 'SELECT' AS name FROM dual UNION ALL SELECT 'INSERT' FROM dual UNION ALL SELECT 'UPDATE' FROM dual UNION ALL SELECT 'DELETE' FROM dual UNION ALL SELECT 'EXECUTE' FROM dual) r WHERE o.owner = SYS_CONTEXT('USERENV', 'SESSION_USER') AND o.object_type IN ('TABLE', 'VIEW', 'PROCEDURE', 'FUNCTION', 'PACKAGE');

-- clock
SELECT SYS_EXTRACT_UTC(SYSTIMESTAMP) FROM dual;

-- delay
SELECT COUNT(*) FROM all_objects a, all_objects b, all_objects c;

-- charset_literal
SELECT '号源锁定·䶮𠅤' FROM dual;

-- charset_bind
SELECT :words FROM dual;


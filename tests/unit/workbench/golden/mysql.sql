-- login
SELECT CURRENT_USER(), DATABASE(), @@character_set_database;

-- grants
SHOW GRANTS;

-- tables
SELECT table_schema, table_name, CASE WHEN table_type LIKE '%VIEW' THEN 'view' ELSE 'table' END, CASE WHEN table_comment = 'VIEW' THEN '' ELSE table_comment END FROM information_schema.tables WHERE table_schema NOT IN ('mysql', 'information_schema', 'performance_schema', 'sys') ORDER BY table_schema, table_name;

-- columns
SELECT table_schema, table_name, column_name, column_type, CASE WHEN is_nullable = 'YES' THEN 1 ELSE 0 END, column_comment FROM information_schema.columns WHERE table_schema NOT IN ('mysql', 'information_schema', 'performance_schema', 'sys') ORDER BY table_schema, table_name, ordinal_position;

-- keys
SELECT table_schema, table_name, column_name FROM information_schema.statistics WHERE index_name = 'PRIMARY' AND table_schema NOT IN ('mysql', 'information_schema', 'performance_schema', 'sys') ORDER BY table_schema, table_name, seq_in_index;

-- indexes
SELECT table_schema, table_name, index_name, 1 - non_unique, column_name FROM information_schema.statistics WHERE table_schema NOT IN ('mysql', 'information_schema', 'performance_schema', 'sys') ORDER BY table_schema, table_name, index_name, seq_in_index;

-- routines
SELECT routine_schema, routine_name, specific_name, LOWER(routine_type), routine_comment, CASE WHEN security_type = 'INVOKER' THEN 1 ELSE 0 END, routine_definition, '' FROM information_schema.routines WHERE routine_schema NOT IN ('mysql', 'information_schema', 'performance_schema', 'sys') ORDER BY routine_schema, routine_name;

-- parameters
SELECT specific_schema, specific_name, specific_name, parameter_name, CASE WHEN ordinal_position = 0 THEN 'return' ELSE LOWER(parameter_mode) END, dtd_identifier, 0 FROM information_schema.parameters WHERE specific_schema NOT IN ('mysql', 'information_schema', 'performance_schema', 'sys') ORDER BY specific_schema, specific_name, ordinal_position;

-- clock
SELECT UTC_TIMESTAMP(6);

-- delay
SELECT SLEEP(20);

-- charset_literal
SELECT '号源锁定·䶮𠅤';

-- charset_bind
SELECT :words;


-- login
SELECT SUSER_SNAME(), DB_NAME(), CAST(DATABASEPROPERTYEX(DB_NAME(), 'Collation') AS nvarchar(128)), SCHEMA_NAME(), IS_SRVROLEMEMBER('sysadmin'), IS_SRVROLEMEMBER('securityadmin'), IS_MEMBER('db_owner');

-- tables
SELECT s.name, o.name, CASE o.type WHEN 'V' THEN 'view' ELSE 'table' END, CAST(e.value AS nvarchar(400)) FROM sys.objects o JOIN sys.schemas s ON s.schema_id = o.schema_id LEFT JOIN sys.extended_properties e ON e.class = 1 AND e.major_id = o.object_id AND e.minor_id = 0 AND e.name = 'MS_Description' WHERE o.type IN ('U', 'V') AND o.is_ms_shipped = 0 UNION ALL SELECT s.name, n.name, 'table', n.base_object_name FROM sys.synonyms n JOIN sys.schemas s ON s.schema_id = n.schema_id ORDER BY 1, 2;

-- columns
SELECT s.name, o.name, c.name, y.name + CASE WHEN y.name IN ('nchar', 'nvarchar') AND c.max_length > 0 THEN '(' + CAST(c.max_length / 2 AS varchar(10)) + ')' WHEN y.name IN ('char', 'varchar', 'binary', 'varbinary') AND c.max_length > 0 THEN '(' + CAST(c.max_length AS varchar(10)) + ')' WHEN c.max_length = -1 THEN '(max)' WHEN y.name IN ('decimal', 'numeric') THEN '(' + CAST(c.precision AS varchar(10)) + ',' + CAST(c.scale AS varchar(10)) + ')' ELSE '' END, c.is_nullable, CAST(e.value AS nvarchar(400)) FROM sys.columns c JOIN sys.objects o ON o.object_id = c.object_id JOIN sys.schemas s ON s.schema_id = o.schema_id JOIN sys.types y ON y.user_type_id = c.user_type_id LEFT JOIN sys.extended_properties e ON e.class = 1 AND e.major_id = c.object_id AND e.minor_id = c.column_id AND e.name = 'MS_Description' WHERE o.type IN ('U', 'V') AND o.is_ms_shipped = 0 ORDER BY s.name, o.name, c.column_id;

-- keys
SELECT s.name, o.name, c.name FROM sys.indexes i JOIN sys.objects o ON o.object_id = i.object_id JOIN sys.schemas s ON s.schema_id = o.schema_id JOIN sys.index_columns k ON k.object_id = i.object_id AND k.index_id = i.index_id JOIN sys.columns c ON c.object_id = k.object_id AND c.column_id = k.column_id WHERE i.is_primary_key = 1 AND o.is_ms_shipped = 0 ORDER BY s.name, o.name, k.key_ordinal;

-- indexes
SELECT s.name, o.name, i.name, i.is_unique, c.name FROM sys.indexes i JOIN sys.objects o ON o.object_id = i.object_id JOIN sys.schemas s ON s.schema_id = o.schema_id JOIN sys.index_columns k ON k.object_id = i.object_id AND k.index_id = i.index_id AND k.key_ordinal > 0 JOIN sys.columns c ON c.object_id = k.object_id AND c.column_id = k.column_id WHERE o.is_ms_shipped = 0 AND i.is_disabled = 0 ORDER BY s.name, o.name, i.name, k.key_ordinal;

-- routines
SELECT s.name, o.name, o.object_id, CASE WHEN o.type IN ('P', 'PC') THEN 'procedure' ELSE 'function' END, CAST(e.value AS nvarchar(400)), 0, m.definition, '' FROM sys.objects o JOIN sys.schemas s ON s.schema_id = o.schema_id LEFT JOIN sys.sql_modules m ON m.object_id = o.object_id LEFT JOIN sys.extended_properties e ON e.class = 1 AND e.major_id = o.object_id AND e.minor_id = 0 AND e.name = 'MS_Description' WHERE o.type IN ('P', 'PC', 'FN', 'IF', 'TF', 'FS', 'FT') AND o.is_ms_shipped = 0 ORDER BY s.name, o.name;

-- parameters
SELECT s.name, o.name, o.object_id, c.name, CASE WHEN c.parameter_id = 0 THEN 'return' WHEN c.is_output = 1 THEN 'inout' ELSE 'in' END, y.name + CASE WHEN y.name IN ('nchar', 'nvarchar') AND c.max_length > 0 THEN '(' + CAST(c.max_length / 2 AS varchar(10)) + ')' WHEN y.name IN ('char', 'varchar', 'binary', 'varbinary') AND c.max_length > 0 THEN '(' + CAST(c.max_length AS varchar(10)) + ')' WHEN c.max_length = -1 THEN '(max)' WHEN y.name IN ('decimal', 'numeric') THEN '(' + CAST(c.precision AS varchar(10)) + ',' + CAST(c.scale AS varchar(10)) + ')' ELSE '' END, c.has_default_value FROM sys.parameters c JOIN sys.objects o ON o.object_id = c.object_id JOIN sys.schemas s ON s.schema_id = o.schema_id JOIN sys.types y ON y.user_type_id = c.user_type_id WHERE o.is_ms_shipped = 0 ORDER BY s.name, o.name, c.parameter_id;

-- rights
SELECT s.name, o.name, p.name FROM sys.objects o JOIN sys.schemas s ON s.schema_id = o.schema_id CROSS JOIN (SELECT 'SELECT' AS name UNION ALL SELECT 'INSERT' UNION ALL SELECT 'UPDATE' UNION ALL SELECT 'DELETE' UNION ALL SELECT 'EXECUTE') p WHERE o.is_ms_shipped = 0 AND o.type IN ('U', 'V', 'P', 'PC', 'FN', 'IF', 'TF', 'FS', 'FT') AND HAS_PERMS_BY_NAME(QUOTENAME(s.name) + '.' + QUOTENAME(o.name), 'OBJECT', p.name) = 1;

-- describe
SELECT r.name, r.error_message FROM sys.dm_exec_describe_first_result_set(:statement, NULL, 0) r ORDER BY r.column_ordinal;

-- clock
SELECT SYSUTCDATETIME();

-- delay
WITH c(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM c WHERE n < 50000000) SELECT MAX(n) FROM c OPTION (MAXRECURSION 0);

-- charset_literal
SELECT N'号源锁定·䶮𠅤';

-- charset_bind
SELECT CAST(:words AS nvarchar(100));


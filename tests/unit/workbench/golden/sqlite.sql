-- charset_name
SELECT encoding FROM pragma_encoding;

-- tables
SELECT '', name, type, '' FROM sqlite_master WHERE type IN ('table', 'view') AND name NOT LIKE 'sqlite\_%' ESCAPE '\' ORDER BY name;

-- texts
SELECT name, sql FROM sqlite_master WHERE type = 'table' AND sql IS NOT NULL;

-- columns
SELECT '', m.name, c.name, c.type, 1 - c."notnull", '' FROM sqlite_master m JOIN pragma_table_info(m.name) c WHERE m.type IN ('table', 'view') ORDER BY m.name, c.cid;

-- keys
SELECT '', m.name, c.name FROM sqlite_master m JOIN pragma_table_info(m.name) c WHERE m.type = 'table' AND c.pk > 0 ORDER BY m.name, c.pk;

-- indexes
SELECT '', m.name, i.name, i."unique", c.name FROM sqlite_master m JOIN pragma_index_list(m.name) i JOIN pragma_index_info(i.name) c WHERE m.type = 'table' ORDER BY m.name, i.name, c.seqno;

-- clock
SELECT strftime('%Y-%m-%d %H:%M:%f', 'now');

-- delay
WITH RECURSIVE c(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM c WHERE n < 50000000) SELECT max(n) FROM c;

-- charset_literal
SELECT '号源锁定·䶮𠅤';

-- charset_bind
SELECT :words;


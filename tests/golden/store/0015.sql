BEGIN TRANSACTION;
CREATE TABLE alembic_version (
	version_num VARCHAR(32) NOT NULL, 
	CONSTRAINT alembic_version_pkc PRIMARY KEY (version_num)
);
INSERT INTO "alembic_version" VALUES('0015');
CREATE TABLE audit (
	sequence INTEGER NOT NULL, 
	time BIGINT NOT NULL, 
	format INTEGER NOT NULL, 
	instance TEXT NOT NULL, 
	actor TEXT NOT NULL, 
	source TEXT NOT NULL, 
	action TEXT NOT NULL, 
	target TEXT NOT NULL, 
	result TEXT NOT NULL, 
	parameters TEXT NOT NULL, 
	digest BLOB NOT NULL, 
	duration BIGINT, 
	mapping_revision TEXT NOT NULL, 
	trace TEXT NOT NULL, 
	hash BLOB NOT NULL, 
	PRIMARY KEY (sequence)
);
INSERT INTO "audit" VALUES(1,1795395600123456,1,'agent-1','relay/160','link','AppointmentService.BookAppointment','T0','REJECTED SLOT_TAKEN','{"order_no": "T1"}',X'0000000000000000000000000000000000000000000000000000000000000000',NULL,'abc123','relay:443#7',X'E71C0553682FF975EF00375E171FA54BBE502A19652604E4786A05FB6480290F');
INSERT INTO "audit" VALUES(2,1795395601123456,1,'agent-1','relay/160','link','AppointmentService.BookAppointment','T1','DONE','{"order_no": "T1"}',X'0101010101010101010101010101010101010101010101010101010101010101',20000,'abc123','relay:443#7',X'6D86BED3B7496B6E16CFA8A9BC39DECCA9F183B15C17C21525E51455F702A30B');
INSERT INTO "audit" VALUES(3,1795395602123456,1,'agent-1','relay/160','link','AppointmentService.BookAppointment','T2','DONE','{"order_no": "T1"}',X'0202020202020202020202020202020202020202020202020202020202020202',20000,'abc123','relay:443#7',X'DF433BA1EB90F218AB596BD1F5A43D483E9E6B1C560F4797CD96BBDA2A637C7F');
CREATE TABLE audit_anchors (
	name TEXT NOT NULL, 
	sequence BIGINT NOT NULL, 
	hash BLOB NOT NULL, 
	PRIMARY KEY (name)
);
INSERT INTO "audit_anchors" VALUES('head',3,X'DF433BA1EB90F218AB596BD1F5A43D483E9E6B1C560F4797CD96BBDA2A637C7F');
CREATE TABLE audit_archive (
	first_sequence INTEGER NOT NULL, 
	last_sequence BIGINT NOT NULL, 
	last_time BIGINT NOT NULL, 
	last_hash BLOB NOT NULL, 
	content BLOB NOT NULL, 
	PRIMARY KEY (first_sequence)
);
CREATE TABLE commands (
	request_id TEXT NOT NULL, 
	operation TEXT NOT NULL, 
	payload_hash BLOB NOT NULL, 
	essence_hash BLOB NOT NULL, 
	order_key TEXT NOT NULL, 
	natural_key TEXT NOT NULL, 
	state TEXT NOT NULL, 
	received_time BIGINT NOT NULL, 
	sent_time BIGINT NOT NULL, 
	attempt INTEGER NOT NULL, 
	probes INTEGER NOT NULL, 
	request BLOB NOT NULL, 
	result BLOB NOT NULL, 
	reason INTEGER NOT NULL, 
	detail TEXT NOT NULL, 
	replay_of TEXT NOT NULL, 
	mapping_revision TEXT NOT NULL, 
	finished_time BIGINT, 
	parent TEXT DEFAULT '' NOT NULL, 
	step TEXT DEFAULT '' NOT NULL, 
	PRIMARY KEY (request_id)
);
INSERT INTO "commands" VALUES('request-0','AppointmentService.BookAppointment',X'0000000000000000000000000000000000000000000000000000000000000000',X'FEFEFEFEFEFEFEFEFEFEFEFEFEFEFEFEFEFEFEFEFEFEFEFEFEFEFEFEFEFEFEFE','T0','order_no:T0','SENT',1795395600123456,1795395600124456,1,0,X'0A025430',X'',0,'','','abc123',NULL,'','');
INSERT INTO "commands" VALUES('request-1','AppointmentService.BookAppointment',X'0101010101010101010101010101010101010101010101010101010101010101',X'FEFEFEFEFEFEFEFEFEFEFEFEFEFEFEFEFEFEFEFEFEFEFEFEFEFEFEFEFEFEFEFE','T1','order_no:T1','DONE',1795395600123456,1795395600124456,2,1,X'0A025431',X'00FF',1,'','','abc123',1795395601123456,'','');
INSERT INTO "commands" VALUES('request-2','AppointmentService.BookAppointment',X'0202020202020202020202020202020202020202020202020202020202020202',X'FEFEFEFEFEFEFEFEFEFEFEFEFEFEFEFEFEFEFEFEFEFEFEFEFEFEFEFEFEFEFEFE','T2','order_no:T2','REJECTED',1795395600123456,1795395600124456,3,2,X'0A025432',X'',2,'号源已被占用','','abc123',1795395602123456,'','');
INSERT INTO "commands" VALUES('request-3','AppointmentService.BookAppointment',X'0303030303030303030303030303030303030303030303030303030303030303',X'FEFEFEFEFEFEFEFEFEFEFEFEFEFEFEFEFEFEFEFEFEFEFEFEFEFEFEFEFEFEFEFE','T3','order_no:T3','UNKNOWN',1795395600123456,1795395600124456,4,3,X'0A025433',X'',3,'','','abc123',1795395603123456,'','');
INSERT INTO "commands" VALUES('request-4','AppointmentService.BookAppointment',X'0404040404040404040404040404040404040404040404040404040404040404',X'FEFEFEFEFEFEFEFEFEFEFEFEFEFEFEFEFEFEFEFEFEFEFEFEFEFEFEFEFEFEFEFE','T4','order_no:T4','RETRYABLE',1795395600123456,1795395600124456,5,4,X'0A025434',X'',4,'','','abc123',1795395604123456,'','');
CREATE TABLE events (
	sequence INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT, 
	event_id TEXT NOT NULL, 
	lane TEXT NOT NULL, 
	payload BLOB NOT NULL, 
	state TEXT NOT NULL, 
	attempts INTEGER NOT NULL, 
	created_time BIGINT NOT NULL, 
	next_time BIGINT NOT NULL, 
	detail TEXT NOT NULL, 
	finished_time BIGINT, 
	due BIGINT, 
	UNIQUE (event_id)
);
INSERT INTO "events" VALUES(1,'event-0','order:T0',X'0800','ACKED',0,1795395600123456,1795395600123456,'',1795395601123456,NULL);
INSERT INTO "events" VALUES(2,'event-1','order:T0',X'0801','DEAD',0,1795395600123456,1795395600123456,'refused',1795395601123456,NULL);
INSERT INTO "events" VALUES(3,'event-2','order:T1',X'0802','PENDING',0,1795395600123456,1795395600123456,'',NULL,1795395600123456);
INSERT INTO "events" VALUES(4,'event-3','order:T1',X'0803','PENDING',1,1795395600123456,1795395605123456,'busy',NULL,NULL);
INSERT INTO "events" VALUES(5,'event-4','order:T2',X'0804','PENDING',0,1795395600123456,1795395600123456,'',NULL,1795395600123456);
CREATE TABLE his_rows (
	stream TEXT NOT NULL, 
	"key" TEXT NOT NULL, 
	version BIGINT NOT NULL, 
	message BLOB, 
	changed_time BIGINT NOT NULL, 
	absent BOOLEAN NOT NULL, 
	PRIMARY KEY (stream, "key")
)
 WITHOUT ROWID

;
INSERT INTO "his_rows" VALUES('orders','k1',3,X'01',1795395600123456,0);
INSERT INTO "his_rows" VALUES('orders','k2',2,NULL,1795395600123456,0);
INSERT INTO "his_rows" VALUES('orders','k3',1,X'',1795395600123456,1);
CREATE TABLE leases (
	name TEXT NOT NULL, 
	holder TEXT NOT NULL, 
	term BIGINT NOT NULL, 
	expires BIGINT NOT NULL, 
	PRIMARY KEY (name)
);
INSERT INTO "leases" VALUES('site','agent-1',1,1795935866597982);
CREATE TABLE metadata (
	name TEXT NOT NULL, 
	value TEXT NOT NULL, 
	PRIMARY KEY (name)
);
INSERT INTO "metadata" VALUES('schema_version','2');
INSERT INTO "metadata" VALUES('created_time','2026-11-23T01:00:00+00:00');
INSERT INTO "metadata" VALUES('store_id','10a4048c61a142538df59b310f500076');
CREATE TABLE notice_subjects (
	request_id TEXT NOT NULL, 
	subject TEXT NOT NULL, 
	kind TEXT NOT NULL, 
	received_time BIGINT NOT NULL, 
	event_id TEXT NOT NULL, 
	seen_time BIGINT, 
	given_up BOOLEAN NOT NULL, 
	PRIMARY KEY (request_id, subject)
);
CREATE TABLE notices (
	request_id TEXT NOT NULL, 
	kind TEXT NOT NULL, 
	payload_hash BLOB NOT NULL, 
	window TEXT NOT NULL, 
	operator_id TEXT NOT NULL, 
	content BLOB NOT NULL, 
	received_time BIGINT NOT NULL, 
	PRIMARY KEY (request_id)
);
CREATE TABLE payment_notices (
	gateway TEXT NOT NULL, 
	event TEXT NOT NULL, 
	number TEXT NOT NULL, 
	received_time BIGINT NOT NULL, 
	last_time BIGINT NOT NULL, 
	times INTEGER NOT NULL, 
	woken_time BIGINT, 
	PRIMARY KEY (gateway, event, number)
);
INSERT INTO "payment_notices" VALUES('wechatpay','TRANSACTION.SUCCESS','W1',1795395600123456,1795395600123456,2,1795395601123456);
INSERT INTO "payment_notices" VALUES('wechatpay','TRANSACTION.SUCCESS','W2',1795395600123456,1795395600123456,1,NULL);
CREATE TABLE refunds (
	out_refund_no TEXT NOT NULL, 
	order_key TEXT NOT NULL, 
	out_trade_no TEXT NOT NULL, 
	amount_fen BIGINT NOT NULL, 
	state TEXT NOT NULL, 
	asked INTEGER NOT NULL, 
	created_time BIGINT NOT NULL, 
	next_time BIGINT, 
	final_time BIGINT, 
	detail TEXT NOT NULL, 
	owner TEXT NOT NULL, 
	PRIMARY KEY (out_refund_no)
);
INSERT INTO "refunds" VALUES('R0','T1','W1',2500,'PROCESSING',0,1795395600123456,1795395601123456,NULL,'银行卡已注销','request-1');
INSERT INTO "refunds" VALUES('R1','T1','W1',2500,'DONE',1,1795395600123456,NULL,1795395601123456,'银行卡已注销','request-1');
INSERT INTO "refunds" VALUES('R2','T1','W1',2500,'ABNORMAL',2,1795395600123456,NULL,1795395601123456,'银行卡已注销','request-1');
CREATE TABLE report_pages (
	run_id TEXT NOT NULL, 
	first_row BIGINT NOT NULL, 
	rows INTEGER NOT NULL, 
	content BLOB NOT NULL, 
	PRIMARY KEY (run_id, first_row)
);
INSERT INTO "report_pages" VALUES('run-schedule',0,2,X'789C00FF');
INSERT INTO "report_pages" VALUES('run-person',0,2,X'789C00FF');
INSERT INTO "report_pages" VALUES('run-relay',0,2,X'789C00FF');
CREATE TABLE report_runs (
	run_id TEXT NOT NULL, 
	report TEXT NOT NULL, 
	slot TEXT NOT NULL, 
	first_day TEXT NOT NULL, 
	last_day TEXT NOT NULL, 
	origin TEXT NOT NULL, 
	state TEXT NOT NULL, 
	owner TEXT NOT NULL, 
	begun_time BIGINT NOT NULL, 
	attempt INTEGER NOT NULL, 
	finished_time BIGINT, 
	next_time BIGINT, 
	rows BIGINT NOT NULL, 
	input_hash BLOB NOT NULL, 
	checksum BLOB NOT NULL, 
	mapping_revision TEXT NOT NULL, 
	definition BLOB NOT NULL, 
	detail TEXT NOT NULL, 
	push_state TEXT NOT NULL, 
	pushed_rows BIGINT NOT NULL, 
	push_attempts INTEGER NOT NULL, 
	push_time BIGINT, 
	file_state TEXT DEFAULT 'NONE' NOT NULL, 
	PRIMARY KEY (run_id), 
	UNIQUE (slot)
);
INSERT INTO "report_runs" VALUES('run-schedule','R1','R1/schedule','2026-11-23','2026-11-23','SCHEDULE','RUNNING','agent-1',1795395600123456,1,NULL,NULL,2,X'FDFDFDFDFDFDFDFDFDFDFDFDFDFDFDFDFDFDFDFDFDFDFDFDFDFDFDFDFDFDFDFD',X'FCFCFCFCFCFCFCFCFCFCFCFCFCFCFCFCFCFCFCFCFCFCFCFCFCFCFCFCFCFCFCFC','abc123',X'0A025231','','NONE',0,0,NULL,'NONE');
INSERT INTO "report_runs" VALUES('run-person','R1','R1/person','2026-11-23','2026-11-23','PERSON','DONE','agent-1',1795395600123456,1,1795395601123456,NULL,2,X'FDFDFDFDFDFDFDFDFDFDFDFDFDFDFDFDFDFDFDFDFDFDFDFDFDFDFDFDFDFDFDFD',X'FCFCFCFCFCFCFCFCFCFCFCFCFCFCFCFCFCFCFCFCFCFCFCFCFCFCFCFCFCFCFCFC','abc123',X'0A025231','','PENDING',0,0,1795395601123456,'NONE');
INSERT INTO "report_runs" VALUES('run-relay','R1','R1/relay','2026-11-23','2026-11-23','RELAY','FAILED','agent-1',1795395600123456,1,1795395601123456,1795395605123456,2,X'FDFDFDFDFDFDFDFDFDFDFDFDFDFDFDFDFDFDFDFDFDFDFDFDFDFDFDFDFDFDFDFD',X'FCFCFCFCFCFCFCFCFCFCFCFCFCFCFCFCFCFCFCFCFCFCFCFCFCFCFCFCFCFCFCFC','abc123',X'0A025231','HIS_UNAVAILABLE','NONE',0,0,NULL,'NONE');
CREATE TABLE sequences (
	name TEXT NOT NULL, 
	value BIGINT NOT NULL, 
	PRIMARY KEY (name)
);
INSERT INTO "sequences" VALUES('msgid',17000000000001);
CREATE TABLE settlements (
	"key" TEXT NOT NULL, 
	order_key TEXT NOT NULL, 
	state TEXT NOT NULL, 
	setl_id TEXT NOT NULL, 
	mdtrt_id TEXT NOT NULL, 
	record BLOB NOT NULL, 
	pay_order_id TEXT NOT NULL, 
	out_trade_no TEXT NOT NULL, 
	owner TEXT NOT NULL, 
	created_time BIGINT NOT NULL, 
	changed_time BIGINT NOT NULL, 
	pay_token TEXT DEFAULT '' NOT NULL, 
	PRIMARY KEY ("key")
);
INSERT INTO "settlements" VALUES('B0','T0','OPEN','S0','M0',X'0A025431','P0','W','request-1',1795395600123456,1795395600123456,'token-0');
INSERT INTO "settlements" VALUES('B1','T1','QUOTED','S1','M1',X'0A025431','P1','W','request-1',1795395600123456,1795395601123456,'token-1');
INSERT INTO "settlements" VALUES('B2','T2','SETTLED','S2','M2',X'0A025431','P2','W','request-1',1795395600123456,1795395602123456,'token-2');
INSERT INTO "settlements" VALUES('B3','T3','REVERSED','S3','M3',X'0A025431','P3','W','request-1',1795395600123456,1795395603123456,'token-3');
INSERT INTO "settlements" VALUES('B4','T4','VOIDED','S4','M4',X'0A025431','P4','W','request-1',1795395600123456,1795395604123456,'token-4');
INSERT INTO "settlements" VALUES('B5','T5','CLOSED','S5','M5',X'0A025431','P5','W','request-1',1795395600123456,1795395605123456,'token-5');
CREATE TABLE streams (
	name TEXT NOT NULL, 
	baseline_time BIGINT NOT NULL, 
	cursor TEXT NOT NULL, 
	PRIMARY KEY (name)
);
INSERT INTO "streams" VALUES('orders',1795395600123456,'cursor-1');
CREATE TABLE trades (
	out_trade_no TEXT NOT NULL, 
	order_key TEXT NOT NULL, 
	amount_fen BIGINT NOT NULL, 
	state TEXT NOT NULL, 
	created_time BIGINT NOT NULL, 
	next_time BIGINT, 
	final_time BIGINT, 
	asked INTEGER NOT NULL, 
	detail TEXT NOT NULL, 
	PRIMARY KEY (out_trade_no)
);
INSERT INTO "trades" VALUES('W0','T1',2500,'OPEN',1795395600123456,1795395601123456,NULL,0,'never paid');
INSERT INTO "trades" VALUES('W1','T1',2500,'UNCONFIRMED',1795395600123456,1795395601123456,NULL,1,'never paid');
INSERT INTO "trades" VALUES('W2','T1',2500,'ENDED',1795395600123456,NULL,1795395601123456,2,'never paid');
CREATE INDEX commands_by_state ON commands (state, finished_time);
CREATE INDEX commands_by_order ON commands (order_key);
CREATE INDEX commands_by_natural_key ON commands (natural_key, operation);
CREATE INDEX commands_by_parent ON commands (parent);
CREATE INDEX events_open ON events (state, created_time) WHERE state <> 'ACKED';
CREATE INDEX events_due ON events (due, sequence) WHERE due IS NOT NULL;
CREATE INDEX events_by_lane ON events (lane, sequence);
CREATE INDEX settlements_by_mdtrt_id ON settlements (mdtrt_id);
CREATE INDEX settlements_by_setl_id ON settlements (setl_id);
CREATE INDEX settlements_by_state ON settlements (state, changed_time);
CREATE INDEX settlements_by_order ON settlements (order_key);
CREATE INDEX refunds_by_trade ON refunds (out_trade_no);
CREATE INDEX refunds_by_state ON refunds (state, next_time);
CREATE INDEX trades_by_state ON trades (state, next_time);
CREATE INDEX payment_notices_by_woken ON payment_notices (woken_time, received_time);
CREATE INDEX notices_by_time ON notices (received_time);
CREATE INDEX notice_subjects_by_seen ON notice_subjects (seen_time, received_time);
CREATE INDEX notice_subjects_by_subject ON notice_subjects (subject, seen_time);
CREATE INDEX report_runs_by_state ON report_runs (state, next_time);
CREATE INDEX report_runs_by_push ON report_runs (push_state, push_time);
CREATE INDEX report_runs_by_file ON report_runs (file_state);
CREATE INDEX report_runs_by_begun ON report_runs (begun_time);
CREATE INDEX report_runs_by_days ON report_runs (report, first_day, last_day);
CREATE INDEX audit_by_target ON audit (target);
CREATE INDEX audit_by_time ON audit (time);
CREATE INDEX audit_archive_by_last ON audit_archive (last_sequence);
CREATE TRIGGER audit_no_update BEFORE UPDATE ON audit BEGIN
    SELECT RAISE(ABORT, 'the audit is append-only');
END;
CREATE TRIGGER audit_no_delete BEFORE DELETE ON audit
WHEN OLD.sequence > coalesce((SELECT sequence FROM audit_anchors WHERE name = 'pruned'), 0) BEGIN
    SELECT RAISE(ABORT, 'the audit is append-only');
END;
CREATE TRIGGER audit_archive_no_update BEFORE UPDATE ON audit_archive BEGIN
    SELECT RAISE(ABORT, 'the audit is append-only');
END;
CREATE TRIGGER audit_archive_no_delete BEFORE DELETE ON audit_archive
WHEN OLD.last_sequence > coalesce((SELECT sequence FROM audit_anchors WHERE name = 'dropped'), 0) BEGIN
    SELECT RAISE(ABORT, 'the audit is append-only');
END;
CREATE INDEX events_acked ON events (finished_time) WHERE state = 'ACKED';
DELETE FROM "sqlite_sequence";
INSERT INTO "sqlite_sequence" VALUES('events',5);
COMMIT;

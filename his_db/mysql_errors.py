"""What the error numbers of MySQL and MariaDB mean, from both manuals' error references."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

from his_db.engine import Fault


def _table(**faults: str) -> dict[int, Fault]:
    return {int(number): Fault[name] for name, numbers in faults.items() for number in numbers.split()}


NUMBERS: Final[Mapping[int, Fault]] = _table(
    # Too many connections, no such host or database, login refused, password expired, TLS.
    CONNECT="""
        1040 1042 1043 1045 1049 1129 1130 1152 1203 1226 1251 1275 1698 1820 1862 1873 2001 2002 2003
        2004 2005 2007 2026 2047 2049 2054 2059 2061 3118 3159 4151
    """,
    # Shutdown, killed, gone away, lost during the query, broken packets.
    LOST="""
        1053 1077 1078 1079 1080 1154 1155 1156 1157 1158 1159 1160 1161 1184 1927 2006 2008 2012 2013
        2014 2027 2048 2055 4031
    """,
    DEADLOCK="1213 1020 1614 3101 3058",
    LOCK_TIMEOUT="1205 1206 3572 3132",
    TIMEOUT="1317 1969 3024 1028 1907",
    CONSTRAINT="1022 1048 1062 1169 1216 1217 1364 1451 1452 1557 1586 1644 1761 1762 3819 3820 4025",
    RIGHTS="1044 1095 1142 1143 1211 1227 1370 1379 1403 1404 1410 1449 3530",
    SCHEMA="""
        1008 1046 1050 1051 1052 1054 1055 1056 1059 1060 1061 1063 1066 1072 1091 1099 1100 1102 1103
        1109 1110 1111 1115 1128 1136 1140 1146 1166 1193 1222 1238 1239 1241 1247 1248 1250 1281 1286
        1288 1295 1298 1304 1305 1308 1312 1314 1318 1321 1327 1336 1347 1356 1394 1400 1414 1415 1422
        1442 1443 1456 1471 1582 1583 1584 1630 1665 3593
    """,
    SYNTAX="1064 1065 1149 1065 1235",
    DATA="""
        1074 1081 1153 1172 1242 1263 1264 1265 1267 1270 1271 1292 1300 1301 1329 1365 1366 1367 1406
        1411 1416 1425 1426 1439 1441 1525 1690 1691 3140 3141 3854 4038
    """,
    READ_ONLY="1223 1290 1568 1792 1836 1874 3946",
)
SIGNAL: Final = 1644  # SIGNAL without MYSQL_ERRNO; with one, SQLSTATE 45000 says the same
OWN_NUMBERS: Final = 20_000  # numbers that procedures choose for themselves; the server's end far below

# Objects in messages, never values: "Duplicate entry '…'" and "Incorrect … value: '…'" come before these words.
_OBJECT: Final = re.compile(
    r"(?:\bTable|Unknown column|\bColumn|for column|for key|for table|for routine|\bPROCEDURE|\bFUNCTION|Unknown table"
    r"|CONSTRAINT|constraint|\bField|Unknown database|for)\s+['`](?P<name>[\w$.`-]+)['`]"
    r"|(?:PROCEDURE|FUNCTION) (?P<routine>[\w$.]+)"
)


def object_in(text: str) -> str:
    """The table, column, key or routine that a message names, or empty."""
    match = _OBJECT.search(text)
    return "" if match is None else (match["name"] or match["routine"]).replace("`", "")

DRIVER={/opt/lib msodbcsql.so};SERVER=10.1.1.5,1433;Encrypt=yes;TrustServerCertificate=yes;DATABASE=THIS4;UID=jk160;PWD={p}}w;d={x};APP=his160;
DRIVER={ODBC Driver 18 for SQL Server};SERVER=10.1.1.5\HIS;Encrypt=no;TrustServerCertificate=yes;ApplicationIntent=ReadOnly;DATABASE=THIS4;UID=jk160;PWD={p}}w;d={x};APP=his160;
DRIVER={ODBC Driver 18 for SQL Server};SERVER=10.1.1.5,1444;Encrypt=yes;TrustServerCertificate=yes;DATABASE=THIS4;UID=jk160;PWD={p}}w;d={x};APP=his160;
DRIVER={ODBC Driver 18 for SQL Server};SERVER=10.1.1.5,1433;Encrypt=yes;TrustServerCertificate=yes;DATABASE=THIS4;Trusted_Connection=yes;APP=his160;
DRIVER={FreeTDS};SERVER=10.1.1.5;PORT=1433;TDS_Version=7.3;ClientCharset=UTF-8;DATABASE=THIS4;UID=jk160;PWD={p}}w;d={x};APP=his160;
DRIVER={FreeTDS};SERVER=10.1.1.5\HIS;TDS_Version=7.3;ClientCharset=UTF-8;Encryption=off;DATABASE=THIS4;UID=jk160;PWD={p}}w;d={x};APP=his160;
SERVER=10.1.1.5,1433;Encrypt=yes;TrustServerCertificate=yes;DATABASE=THIS4;UID=jk160;PWD={p}}w;d={x};

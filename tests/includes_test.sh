#!/bin/sh
# Includes go one way: processor -> effects -> sse; sse/ knows no SQL, effects/ no queue, and only one
# file knows each of the database's libraries.
set -eu
cd "$(dirname "$0")/.."
status=0
forbid() { # what, where it must not stand, pattern
  if found=$(grep -rnE --include='*.hpp' --include='*.cpp' "$3" $2); then
    echo "$1:"
    echo "$found"
    status=1
  fi
}
forbid "sse/ includes effects/ or processor/" sse '#include [<"](effects|processor|spillway)/'
forbid "effects/ includes processor/" effects '#include [<"](processor/|spillway/(event|registry|spillway|version)\.hpp)'
forbid "sse/ speaks SQL" sse '(SELECT|INSERT INTO|pqxx|libpq)'
others=$(find processor effects sse -name '*.[hc]pp' ! -name 'pg_connection.cpp' ! -name 'pg_pipeline.cpp')
forbid "libpqxx or libpq outside of their adapters" "$others" '#include <(pqxx|libpq)'
forbid "libpq in the adapter of libpqxx" processor/pg_connection.cpp '#include <libpq'
forbid "libpqxx in the adapter of libpq" processor/pg_pipeline.cpp '#include <pqxx'
[ "$status" -eq 0 ] && echo "includes go one way"
exit $status

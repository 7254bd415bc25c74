#!/usr/bin/env bash
# Fills in the answers of expressions.txt from a PostgreSQL 15 server: PGHOST=… PGUSER=… tests/sql/record.sh
set -euo pipefail
file=$(dirname "$0")/expressions.txt
out=$(mktemp)
while IFS= read -r line; do
  case $line in
    ''|'#'*) printf '%s\n' "$line" ;;
    *)
      expression=${line%% => *}
      bare=${expression#refused: }
      if answer=$(PGOPTIONS='-c timezone=UTC' psql -XAtq -v VERBOSITY=sqlstate -P null=NULL -c "select $bare" 2>&1); then
        printf '%s => %s\n' "$expression" "${answer//$'\n'/\\n}"
      else
        printf '%s => !%s\n' "$expression" "$(sed -n 's/.*ERROR:  \([0-9A-Z]*\).*/\1/p' <<<"$answer" | head -1)"
      fi ;;
  esac
done <"$file" >"$out"
mv "$out" "$file"

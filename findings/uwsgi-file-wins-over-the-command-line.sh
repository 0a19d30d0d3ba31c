#!/usr/bin/env bash
# uWSGI 2.0.31: a file that the command line names without --ini is read last, so options of the command line do not win over it.
#
# `uwsgi app.ini --processes 8` is what Dockerfiles and entry points write to run the same file with more processes. uWSGI takes
# all options of the command line first, in whatever order they stand, and reads a file that no option names after them; the last
# value counts. So the 8 is lost, without a word. `uwsgi --ini app.ini --processes 8` reads the file at its place, and has 8.
# And a variable UWSGI_PROCESSES comes before all of that, so that the file wins over it in both forms. One would have expected
# what most programs do: the command line over the environment over the file.
#
# Output seen:
#   app.ini --processes 8            processes = 8, then processes = 1
#   --processes 8 app.ini            processes = 8, then processes = 1
#   --ini app.ini --processes 8      processes = 1, then processes = 8
#   --processes 8 --ini app.ini      processes = 8, then processes = 1
#   UWSGI_PROCESSES=8 --ini app.ini  processes = 8, then processes = 1
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
python3 -m venv venv
venv/bin/pip install --quiet --disable-pip-version-check --no-binary uwsgi 'uwsgi==2.0.31'

printf '[uwsgi]\nprocesses = 1\n' > app.ini

# In the order in which uWSGI applies them: the last one counts.
applied() {
    UWSGI_NO_SERVER=true UWSGI_SHOW_CONFIG=true venv/bin/uwsgi "$@" 2>&1 |
        sed -n 's/^processes = .*/&/p' | paste -s -d, | sed 's/,/, then /'
}

{
    printf '%-32s %s\n' 'app.ini --processes 8' "$(applied app.ini --processes 8)"
    printf '%-32s %s\n' '--processes 8 app.ini' "$(applied --processes 8 app.ini)"
    printf '%-32s %s\n' '--ini app.ini --processes 8' "$(applied --ini app.ini --processes 8)"
    printf '%-32s %s\n' '--processes 8 --ini app.ini' "$(applied --processes 8 --ini app.ini)"
    printf '%-32s %s\n' 'UWSGI_PROCESSES=8 --ini app.ini' "$(UWSGI_PROCESSES=8 applied --ini app.ini)"
} > seen

cat > expected <<'TEXT'
app.ini --processes 8            processes = 8, then processes = 1
--processes 8 app.ini            processes = 8, then processes = 1
--ini app.ini --processes 8      processes = 1, then processes = 8
--processes 8 --ini app.ini      processes = 8, then processes = 1
UWSGI_PROCESSES=8 --ini app.ini  processes = 8, then processes = 1
TEXT
cat seen
diff expected seen

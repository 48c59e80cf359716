#!/usr/bin/env bash
# Stops the processes that start.sh started in a folder, and waits for them.
set -euo pipefail
for file in "$1"/run/*.pid; do
    [ -f "$file" ] || continue
    pid=$(cat "$file")
    kill "$pid" 2>/dev/null || continue
    for turn in $(seq 100); do
        # Without this wait, the process stays a zombie in containers without an init process.
        case "$(ps -o stat= -p "$pid")" in "" | Z*) break ;; esac
        [ "$turn" = 80 ] && kill -KILL "$pid" 2>/dev/null
        sleep 0.1
    done
done

#!/usr/bin/env bash
# Bring waiting rows nearer to their end on a machine that is borrowed for minutes, such as one with a GPU:
#
#   MAMLKIT_COMMIT=<commit> benchmarks/borrowed.sh OUT HOURS ['mini-imagenet-*'] [cuda|cpu]
#
# Rows come in the order of the queue, one after the other; the time is divided evenly over the first four, since a
# state that has come some way is worth more than none. What was reached is packed into OUT/rows.tar: states
# (data/partial) and numbers (data/results). At home `tar -xf rows.tar` in the clone, and commit.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
out=$1 hours=$2 pattern=${3:-'*-imagenet-*way-*shot'} device=${4:-cuda}
python=${PYTHON:-$([[ -x .venv/bin/python ]] && echo .venv/bin/python || echo python3)}

mark=$(mktemp)
share=$("$python" -c "print($hours / 4)")
rows=$("$python" -c "
from mamlkit.runs import plan
print(*[job.row.name for job in plan.jobs('$pattern', (0,))][:4])")
for row in $rows; do
  "$python" -m mamlkit paper --only "$row" --seeds 0 --hours "$share" --device "$device" --no-nice || true
done
find data/partial data/results -type f -newer "$mark" -print0 | tar -cf "$out/rows.tar" --null -T -
tar -tf "$out/rows.tar"

#!/usr/bin/env bash
#SBATCH --cpus-per-task=2 --time=4:00:00 --signal=TERM@120 --requeue --open-mode=append
# A line of a file for each task of a Slurm job array: docs/cluster.md. Submitted from the checkout.
if [ ! -f "$1" ] || [ ! -r "$1" ]; then
  echo "error: ${1:-no file}: cannot be read; give the file of mhc-repro plan --lines" >&2
  exit 2
fi
line=$(sed -n "${SLURM_ARRAY_TASK_ID:?submit with --array}p" "$1")
if [ -z "$line" ]; then
  echo "error: $1 has no line $SLURM_ARRAY_TASK_ID; submit with --array=1-$(wc -l <"$1")" >&2
  exit 2
fi
eval "set -- $line"
srun python experiments/train.py "$@"
code=$?
# Asked to stop, two minutes before its time is up, a run saves and leaves with 143: it goes on in another turn.
[ $code = 143 ] && scontrol requeue "$SLURM_JOB_ID"
exit $code

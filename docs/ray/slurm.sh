#!/bin/bash
# Slurm: a job of two parts. Four CPU nodes form the Ray cluster, one GPU node runs vLLM.
#   sbatch slurm.sh
#SBATCH --job-name=rao
#SBATCH --nodes=4 --ntasks-per-node=1 --cpus-per-task=32 --mem=64G --time=04:00:00
#SBATCH hetjob
#SBATCH --nodes=1 --ntasks-per-node=1 --cpus-per-task=8 --gpus-per-node=1 --mem=64G
set -euo pipefail

cpu_nodes=$(scontrol show hostnames "$SLURM_JOB_NODELIST_HET_GROUP_0")
head=$(head -n 1 <<< "$cpu_nodes")
sampler=$(scontrol show hostnames "$SLURM_JOB_NODELIST_HET_GROUP_1" | head -n 1)

srun --het-group=1 vllm serve MODEL --port 8000 --logprobs-mode processed_logprobs &
until curl --silent --fail "http://$sampler:8000/health"; do sleep 5; done

# Ray starts a node with each task, runs the command on the head once all four have joined, and stops them afterwards.
srun --het-group=0 ray symmetric-run --address "$head:6379" --min-nodes 4 --num-cpus 32 -- \
    rao rollout textcraft --ray "$head:6379" --concurrency 512 --out traces/ \
    --model MODEL --base-url "http://$sampler:8000/v1"

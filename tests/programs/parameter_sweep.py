# Velda documentation, Sharded Jobs: "Parameter Sweeps".
import os

shard_id = int(os.environ['VELDA_SHARD_ID'])
total_shards = int(os.environ['VELDA_TOTAL_SHARDS'])

# Define hyperparameter space
learning_rates = [1e-5, 1e-4, 1e-3, 1e-2, 1e-1]
batch_sizes = [16, 32, 64, 128]

# Create all combinations
configs = [(lr, bs) for lr in learning_rates for bs in batch_sizes]

# Each shard tests a subset of configurations
for i in range(shard_id, len(configs), total_shards):
    lr, batch_size = configs[i]
    print(f"Testing lr={lr}, batch_size={batch_size}")
    train_and_evaluate(lr, batch_size)

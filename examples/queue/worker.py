import os
import time
import json
import redis

REDIS_URL = os.environ.get('REDIS_URL', 'redis://localhost:6379/0')
r = redis.from_url(REDIS_URL)

def process_job(job):
    data = json.loads(job)
    # do the real work
    print('processing', data)

if __name__ == '__main__':
    while True:
        job = r.lpop('jobs')
        if not job:
            time.sleep(1)
            continue
        try:
            process_job(job)
        except Exception:
            # consider pushing failed jobs to a dead-letter queue
            raise

#!/bin/bash
{% for directive in directives %}
#SBATCH {{ directive }}
{% endfor %}
{% for component in components %}
#SBATCH hetjob
{% for directive in component %}
#SBATCH {{ directive }}
{% endfor %}
{% endfor %}

# Run {{ run_id }}, batch {{ batch }}: {{ covers }}.
# The runtime works out which shard this is, keeps its record and its log, and ends as the program ends.
{% if prologue %}

{{ prologue }}
{% endif %}

exec {{ launch }}

#!/bin/bash
{% for lines, directives in sections %}
{% if not loop.first %}
#SBATCH hetjob
{% endif %}
{% for directive in directives %}
#SBATCH {{ directive }}
{% endfor %}
{% if lines %}
{{ lines }}
{% endif %}
{% endfor %}

# Run {{ run_id }}, batch {{ batch }}: {{ covers }}.
{% if options %}
# Options of sbatch's command line: {{ options }}
{% endif %}
# The script itself is {{ copy }}. The runtime starts it, keeps a record of it, and ends as it ends.
exec {{ launch }}

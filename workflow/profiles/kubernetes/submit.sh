# submit.sh CPUS MEMORY_MB GPUS MINUTES SCRIPT: create a job from job.yaml and print its name.
set -eu
sed -e '/^#/d' -e "s|CPUS|$1|" -e "s|MEMORY|$2|g" -e "s|GPUS|$3|" -e "s|SECONDS|$(($4 * 60))|" -e "s|SCRIPT|$5|" -e "s|CHECKOUT|$PWD|" \
    "$(dirname "$0")/job.yaml" | kubectl create -f - -o 'jsonpath={.metadata.name}'

#!/bin/sh
# Random secrets for docker-compose.yml, into secrets/ beside it. What is there already is kept.
set -eu
cd "$(dirname "$0")/.."
umask 077
mkdir -p secrets
for name in llmcxr_vllm_api_key grafana_password orthanc_password; do
    file=secrets/$name
    if [ ! -s "$file" ]; then
        od -An -N32 -tx1 /dev/urandom | tr -d ' \n' >"$file"
        echo "$file: new"
    fi
    # The containers' users are not you. They see single files of the directory, which stays closed.
    chmod 644 "$file"
done
if [ -s secrets/orthanc_password ]; then
    # Orthanc takes parts of its configuration from files with this ending.
    printf '{"RegisteredUsers": {"llmcxr": "%s"}}\n' "$(cat secrets/orthanc_password)" \
        >secrets/orthanc.secret.json
    chmod 644 secrets/orthanc.secret.json
fi
# `keys create` writes here; the file has to be there before the containers are.
: >>secrets/llmcxr_metrics_key
chmod 644 secrets/llmcxr_metrics_key

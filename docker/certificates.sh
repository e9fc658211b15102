#!/bin/sh
# Makes what the Dask scheduler, its workers and the serving process know each other by, in the folder that is named:
# one certificate that signs itself, as whoever has its key may use the cluster. It is good for a year.
set -eu
folder=${1:?name a folder, such as docker/tls}
umask 077
mkdir -p "$folder"
openssl req -x509 -newkey rsa:3072 -nodes -sha256 -days 365 -subj /CN=maskmill \
  -keyout "$folder/key.pem" -out "$folder/cert.pem" 2> "$folder/log" || { cat "$folder/log" >&2; exit 1; }
rm "$folder/log"
cp "$folder/cert.pem" "$folder/ca.pem"
# Nobody else enters the folder; in containers, where another user reads them, the files are mounted one by one.
chmod 644 "$folder"/*.pem

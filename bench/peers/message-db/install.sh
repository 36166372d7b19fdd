#!/usr/bin/env bash
# message-db's own installer, into the database that PGDATABASE names.
set -e
package=$(dirname "${BASH_SOURCE[0]}")/node_modules/@eventide/message-db
DATABASE_NAME=$PGDATABASE CREATE_DATABASE=off bash "$package/database/install.sh"

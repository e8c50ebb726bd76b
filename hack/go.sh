#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# Prints the path of a Go command that can build this module. Any Go from 1.21 on
# fetches the toolchain that go.mod asks for by itself. Debian 12's Go 1.19 does
# not know how to, so that it is made to download the toolchain as a module.
set -eu

usable() {
	local v
	v=$("$1" env GOVERSION 2>/dev/null) || return 1
	[ "$(printf '%s\n' go1.21 "$v" | sort -V | head -n 1)" = go1.21 ]
}

for go in go /usr/local/go/bin/go /usr/lib/go/bin/go; do
	if command -v "$go" >/dev/null && usable "$go"; then
		command -v "$go"
		exit 0
	fi
done

command -v /usr/lib/go-1.19/bin/go >/dev/null || {
	echo "no Go from 1.21 on is installed; \`make deps\` installs golang-1.19-go, which can fetch one" >&2
	exit 1
}
version=$(sed -n 's/^go //p' go.mod)
toolchain=golang.org/toolchain@v0.0.1-go$version.linux-amd64
dir=$(cd / && GO111MODULE=on /usr/lib/go-1.19/bin/go mod download -json "$toolchain" | sed -n 's/^\t"Dir": "\(.*\)",$/\1/p')
# Modules carry no permissions; Go sets them itself since 1.21.
if [ ! -x "$dir/bin/go" ]; then
	chmod -R u+w "$dir"
	chmod -R u+x "$dir/bin" "$dir/pkg/tool"
fi
echo "$dir/bin/go"

#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# Unpacks create-diff-object of Debian trixie's kpatch-build into the folder $1,
# to be measured against. Nothing is installed and the host's apt is left as it
# is: the index is fetched into a folder of its own, from the archive that the
# host uses.
set -euo pipefail

dir=$1
[ -x "$dir/usr/lib/kpatch/create-diff-object" ] && exit 0
mkdir -p "$dir"
dir=$(cd "$dir" && pwd)
uri=$(apt-get indextargets --format '$(REPO_URI)|$(COMPONENT)' 'Created-By: Packages' | sed -n 's/|main$//p' | grep -v -e security | head -n 1)
[ -n "$uri" ] || { echo "kpatch-tools: apt knows no archive; run apt-get update" >&2; exit 1; }
mkdir -p "$dir/apt/lists/partial" "$dir/apt/archives/partial"
echo "deb $uri trixie main" >"$dir/apt/sources.list"
options=(-o Dir::Etc::sourcelist="$dir/apt/sources.list" -o Dir::Etc::sourceparts=- -o Dir::State::lists="$dir/apt/lists"
	-o Dir::Cache::archives="$dir/apt/archives" -o Dir::Cache::pkgcache= -o Dir::Cache::srcpkgcache= -o APT::Sandbox::User=root)
apt-get "${options[@]}" -q update >"$dir/apt/log" 2>&1 || { cat "$dir/apt/log" >&2; exit 1; }
cd "$dir/apt/archives"
apt-get "${options[@]}" -q download kpatch-build >>"$dir/apt/log" 2>&1 || { cat "$dir/apt/log" >&2; exit 1; }
for deb in kpatch-build_*.deb; do dpkg-deb -x "$deb" "$dir"; done
rm -rf "$dir/apt"
ls "$dir"/usr/lib/kpatch/create-diff-object >/dev/null

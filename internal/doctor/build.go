// SPDX-License-Identifier: Apache-2.0

package doctor

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"

	"golang.org/x/sys/unix"
)

// cacheNeed is what a kernel's source, headers, image and objects take in the
// cache: the unpacked source of Debian's 6.1 alone has 1.5 GB.
const cacheNeed = 3 << 30

// build checks what it takes to compile a few files of the running kernel as its
// distribution did.
func (h *Host) build(ctx context.Context, r *Report) {
	h.compiler(ctx, r)
	h.tools(r)
	h.packages(ctx, r)
	h.disk(r)
}

var (
	// "… (gcc-12 (Debian 12.2.0-14+deb12u1) 12.2.0, GNU ld …) #1 SMP …"
	reCompiler = regexp.MustCompile(`\(((?:[\w-]+-)?(?:gcc|clang)(?:-[0-9.]+)?) \(([^)]*)\) ([0-9.]+)`)
	// "… #1 SMP PREEMPT_DYNAMIC Debian 6.1.170-3 (2026-…)"
	reDebian = regexp.MustCompile(` Debian ([0-9][^ ]*) \(`)
	reSeries = regexp.MustCompile(`^[0-9]+\.[0-9]+`)
)

func (h *Host) version() string {
	b, err := os.ReadFile(h.Kernel.Path("/proc/version"))
	if err != nil {
		return ""
	}
	return string(b)
}

func (h *Host) compiler(ctx context.Context, r *Report) {
	const name = "compiler"
	m := reCompiler.FindStringSubmatch(h.version())
	if m == nil {
		r.add(Build, name, Warn, "the kernel does not say in /proc/version which compiler made it", "give a kernel tree to `lupatch build`, see its --help")
		return
	}
	cc, vendor, version := m[1], m[2], m[3]
	remedy := "apt-get install " + filepath.Base(cc)
	if _, err := h.LookPath(cc); err != nil {
		r.add(Build, name, Fail, fmt.Sprintf("the kernel was made with %s %s, which is not installed", cc, version), remedy)
		return
	}
	out, err := h.Run(ctx, cc, "--version")
	if err != nil {
		r.add(Build, name, Fail, fmt.Sprintf("%s does not run: %v", cc, err), remedy)
		return
	}
	out = firstLine(out)
	switch {
	case !strings.Contains(out, version):
		r.add(Build, name, Fail, fmt.Sprintf("the kernel was made with %s %s, installed is %q", cc, version, out), remedy+", in the version that made the kernel")
	case !strings.Contains(out, vendor):
		r.add(Build, name, Warn, fmt.Sprintf("the kernel was made with the build %q of %s %s, installed is %q; run-pre verification will tell whether that matters", vendor, cc, version, out), remedy)
	default:
		r.add(Build, name, OK, out, "")
	}
}

// tools are the commands a build runs. optional ones are for files that need
// host tools made first, such as ASN.1 users, and for trees of one's own.
func (h *Host) tools(r *Report) {
	for _, t := range []struct {
		command, pkg string
		optional     bool
	}{
		{"make", "make", false}, {"ld", "binutils", false}, {"xz", "xz-utils", false}, {"tar", "tar", false}, {"dpkg-deb", "dpkg", false},
		{"flex", "flex", true}, {"bison", "bison", true}, {"bc", "bc", true},
	} {
		if path, err := h.LookPath(t.command); err == nil {
			r.add(Build, t.command, OK, path, "")
		} else if t.optional {
			r.add(Build, t.command, Warn, "not installed; a few files of a kernel need it", "apt-get install "+t.pkg)
		} else {
			r.add(Build, t.command, Fail, "not installed", "apt-get install "+t.pkg)
		}
	}
	for _, l := range []struct{ header, pkg string }{{"/usr/include/libelf.h", "libelf-dev"}, {"/usr/include/openssl/opensslv.h", "libssl-dev"}} {
		if _, err := os.Stat(h.Kernel.Path(l.header)); err == nil {
			r.add(Build, l.pkg, OK, l.header, "")
		} else {
			r.add(Build, l.pkg, Warn, "not installed; a kernel tree that was never built needs it", "apt-get install "+l.pkg)
		}
	}
}

// packages checks that the package archives carry source, headers and image of
// the running kernel. A tree of one's own needs none of them.
func (h *Host) packages(ctx context.Context, r *Report) {
	if _, err := h.LookPath("apt-cache"); err != nil {
		r.add(Build, "packages", Warn, "there is no apt-cache: sources cannot be fetched", "give a kernel tree to `lupatch build`, see its --help")
		return
	}
	m := reDebian.FindStringSubmatch(h.version())
	if m == nil {
		r.add(Build, "packages", Warn, "the running kernel is not one of Debian's", "give its tree to `lupatch build`, see its --help")
		return
	}
	want, series := m[1], reSeries.FindString(r.Release)
	for _, pkg := range []string{"linux-source-" + series, "linux-headers-" + r.Release, "linux-image-" + r.Release} {
		const update = "apt-get update; if that does not help, add the archive that carries it to /etc/apt/sources.list"
		out, err := h.Run(ctx, "apt-cache", "madison", pkg)
		switch {
		case err != nil || strings.TrimSpace(out) == "":
			r.add(Build, pkg, Fail, "no package source carries it", update)
		case !carries(out, want):
			r.add(Build, pkg, Warn, fmt.Sprintf("the package sources carry it, but not in version %s", want), update)
		default:
			r.add(Build, pkg, OK, want+" is available", "")
		}
	}
}

// carries looks for a version in lines "package | version | origin".
func carries(madison, version string) bool {
	for line := range strings.Lines(madison) {
		if f := strings.Split(line, "|"); len(f) >= 2 && strings.TrimSpace(f[1]) == version {
			return true
		}
	}
	return false
}

func (h *Host) disk(r *Report) {
	const name = "cache"
	dir := h.CacheDir
	if dir == "" {
		r.add(Build, name, Fail, "there is no home folder to cache sources in", "set XDG_CACHE_HOME")
		return
	}
	var st unix.Statfs_t
	for {
		err := unix.Statfs(dir, &st)
		if err == nil {
			break
		}
		if !errors.Is(err, fs.ErrNotExist) || dir == filepath.Dir(dir) {
			r.add(Build, name, Fail, fmt.Sprintf("%s cannot be looked at: %v", dir, err), "set XDG_CACHE_HOME")
			return
		}
		dir = filepath.Dir(dir)
	}
	free := st.Bavail * uint64(st.Bsize)
	detail := fmt.Sprintf("%.1f GB free for %s", float64(free)/(1<<30), h.CacheDir)
	if free < cacheNeed {
		r.add(Build, name, Warn, fmt.Sprintf("%s; a kernel's source and headers take about %d GB", detail, cacheNeed>>30), "make room, or set XDG_CACHE_HOME")
		return
	}
	r.add(Build, name, OK, detail, "")
}

// SPDX-License-Identifier: Apache-2.0

package kbuild

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"strings"

	"github.com/lupatch/lupatch/internal/refuse"
)

// Config is a kernel configuration: "CONFIG_X" to "y", "m", a number or a text
// without its quotes. What is not set is absent.
type Config map[string]string

// Enabled says whether an option is y or m.
func (c Config) Enabled(name string) bool { return c[name] == "y" || c[name] == "m" }

// ReadConfig reads a file in the form of .config.
func ReadConfig(path string) (Config, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("reading kernel configuration: %w", err)
	}
	defer f.Close()
	c := Config{}
	sc := bufio.NewScanner(f)
	sc.Buffer(nil, 1<<20)
	for sc.Scan() {
		k, v, ok := strings.Cut(sc.Text(), "=")
		if !ok || !strings.HasPrefix(k, "CONFIG_") {
			continue
		}
		if len(v) >= 2 && v[0] == '"' && v[len(v)-1] == '"' {
			v = strings.NewReplacer(`\"`, `"`, `\\`, `\`).Replace(v[1 : len(v)-1])
		}
		c[k] = v
	}
	if err := sc.Err(); err != nil {
		return nil, fmt.Errorf("reading kernel configuration %s: %w", path, err)
	}
	if len(c) == 0 {
		return nil, fmt.Errorf("reading kernel configuration %s: it sets nothing", path)
	}
	return c, nil
}

// compilerText is what the kernel was built with: the first line of
// `CC --version`, kept in the configuration since 5.8.
func (c Config) compilerText() string { return c["CONFIG_CC_VERSION_TEXT"] }

var debianGCC = regexp.MustCompile(`\(Debian ([^)]+)\)`)

// compilerCommand is the compiler's command on this host: the name the kernel
// was built with, without the prefix of a cross compiler, which a host of the
// same architecture need not have.
func (c Config) compilerCommand() string {
	name, _, _ := strings.Cut(c.compilerText(), " ")
	return strings.TrimPrefix(name, "x86_64-linux-gnu-")
}

// checkCompiler refuses a compiler that is not the kernel's own: other code
// would come out, which run-pre verification could only report function by
// function.
func (t *Tree) checkCompiler(ctx context.Context) error {
	want := t.Config.compilerText()
	if want == "" {
		return refuse.New(refuse.CompilerMismatch, t.Release, "the configuration does not say which compiler built this kernel")
	}
	if strings.Contains(want, "clang") {
		return refuse.New(refuse.CompilerMismatch, t.Release, "the kernel was built with %q; only gcc is supported", want)
	}
	if t.CC == "" {
		t.CC = t.Config.compilerCommand()
	}
	_, wantVersion, _ := strings.Cut(want, " ")
	pkg := t.CC
	if m := debianGCC.FindStringSubmatch(want); m != nil {
		pkg = fmt.Sprintf("%s (version %s)", t.CC, m[1])
	}
	cmd := exec.CommandContext(ctx, t.CC, "--version")
	cmd.Env = cleanEnv()
	out, err := cmd.Output()
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if err != nil {
		e := refuse.New(refuse.CompilerMismatch, t.CC, "the kernel was built with %q, which is not installed here", want)
		e.Remedy = "install the package " + pkg
		return e
	}
	have, _, _ := strings.Cut(string(out), "\n")
	_, haveVersion, _ := strings.Cut(have, " ")
	if haveVersion == wantVersion {
		return nil
	}
	if t.opt.AnyCompiler {
		t.note("the kernel was built with %q, this is %q", want, have)
		return nil
	}
	e := refuse.New(refuse.CompilerMismatch, t.CC, "the kernel was built with %q, installed is %q", want, have)
	e.Remedy = "install the package " + pkg
	return e
}

// compilerID names compiler and assembler in the key of a cached object.
func (t *Tree) compilerID(ctx context.Context) (string, error) {
	t.idOnce.Do(func() {
		var b strings.Builder
		for _, args := range [][]string{{"-v"}, {"-Wa,--version", "-c", "-x", "assembler", "/dev/null", "-o", "/dev/null"}} {
			cmd := exec.CommandContext(ctx, t.CC, args...)
			cmd.Env = cleanEnv()
			out, err := cmd.CombinedOutput()
			if err != nil {
				t.idErr = fmt.Errorf("asking %s for its version: %w", t.CC, err)
				return
			}
			b.Write(out)
		}
		t.id = b.String()
	})
	return t.id, t.idErr
}

// cleanEnv is the environment of compilers and make: nothing of the user's that
// changes what they produce (CPATH, KCFLAGS, MAKEFLAGS, the locale).
func cleanEnv(extra ...string) []string {
	env := []string{"LC_ALL=C", "PATH=" + os.Getenv("PATH")}
	for _, k := range []string{"HOME", "TMPDIR"} {
		if v, ok := os.LookupEnv(k); ok {
			env = append(env, k+"="+v)
		}
	}
	return append(env, extra...)
}

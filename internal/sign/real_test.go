// SPDX-License-Identifier: Apache-2.0

package sign_test

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/lupatch/lupatch/internal/deb"
	"github.com/lupatch/lupatch/internal/lab/labtest"
	"github.com/lupatch/lupatch/internal/sign"
)

// The programs of others are held against ours, in both directions. What the
// kernel says is in package live.

func noPassword(string) (string, error) { return "", nil }

func run(t *testing.T, env []string, name string, args ...string) string {
	t.Helper()
	cmd := exec.Command(name, args...)
	cmd.Env = append(os.Environ(), env...)
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
	}
	return string(out)
}

func put(t *testing.T, path string, text []byte) string {
	t.Helper()
	if err := os.WriteFile(path, text, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// trusted lays out a host that trusts the files.
func trusted(t *testing.T, require string, files ...string) *sign.Policy {
	t.Helper()
	root := t.TempDir()
	dir := filepath.Join(root, sign.TrustedDir)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	put(t, filepath.Join(root, sign.PolicyPath), []byte("require = "+require+"\n"))
	for _, f := range files {
		text, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		put(t, filepath.Join(dir, filepath.Base(f)), text)
	}
	p, err := sign.ReadPolicy(root)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func readKey(t *testing.T, path, cert string) *sign.Key {
	t.Helper()
	k, err := sign.ReadKey(path, cert, noPassword)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// unpack gives the content of a package of Debian.
func unpack(t *testing.T, pkg string) string {
	t.Helper()
	cache, err := deb.New("")
	if err != nil {
		t.Fatal(err)
	}
	v, err := cache.Versions(t.Context(), pkg)
	if err != nil || len(v) == 0 {
		t.Fatalf("looking for %s: %v, %v", pkg, v, err)
	}
	dir, err := cache.Unpack(t.Context(), pkg, v[0])
	if err != nil {
		t.Fatal(err)
	}
	return dir
}

var module = bytes.Repeat([]byte("\x7fELF a module"), 500)

// openssl verifies what we sign, with an RSA and an EC key of its own making.
func TestOpenSSL(t *testing.T) {
	dir := t.TempDir()
	for _, kind := range []string{"rsa:2048", "ec"} {
		key, cert := filepath.Join(dir, kind+".key"), filepath.Join(dir, kind+".crt")
		args := []string{"req", "-new", "-x509", "-sha256", "-nodes", "-days", "30", "-subj", "/CN=maker " + kind, "-newkey", kind, "-keyout", key, "-out", cert}
		if kind == "ec" {
			args = append(args, "-pkeyopt", "ec_paramgen_curve:P-384")
		}
		run(t, nil, "openssl", args...)
		k := readKey(t, key, cert)
		for _, digest := range []string{"sha256", "sha512"} {
			signed, err := k.SignKernel(module, digest)
			if err != nil {
				t.Fatal(err)
			}
			_, der, err := sign.Split(signed)
			if err != nil {
				t.Fatal(err)
			}
			sig, data := put(t, filepath.Join(dir, "sig"), der), put(t, filepath.Join(dir, "data"), module)
			for _, tool := range []string{"cms", "smime"} {
				verify := []string{tool, "-verify", "-binary", "-inform", "DER", "-in", sig, "-content", data, "-certfile", cert, "-noverify", "-out", filepath.Join(dir, "out")}
				run(t, nil, "openssl", verify...)
				put(t, data, append(bytes.Clone(module), 'x'))
				if out, err := exec.Command("openssl", verify...).CombinedOutput(); err == nil {
					t.Errorf("openssl %s takes an altered file: %s", tool, out)
				}
				put(t, data, module)
			}
		}
	}
}

// We verify what the kernel's own sign-file signs, and it is told apart from
// what was altered.
func TestSignFile(t *testing.T) {
	labtest.SkipIfShort(t)
	tool := filepath.Join(unpack(t, "linux-kbuild-6.1"), "usr/lib/linux-kbuild-6.1/scripts/sign-file")
	g, err := sign.Generate(filepath.Join(t.TempDir(), "k"), "sign-file", "")
	if err != nil {
		t.Fatal(err)
	}
	p := trusted(t, "kernel", g.Certificate)
	for _, args := range [][]string{{"sha256"}, {"-k", "sha512"}} {
		file := put(t, filepath.Join(t.TempDir(), "m.ko"), module)
		run(t, nil, tool, append(args, g.Private, g.Private, file)...)
		signed, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		list := sign.Examine(signed, nil, p.Trust)
		if len(list) != 1 || list[0].State != sign.Trusted || p.Check("m.ko", list) != nil {
			t.Errorf("%v: %v", args, list)
		}
		signed[3] ^= 1
		if list := sign.Examine(signed, nil, p.Trust); len(list) != 1 || list[0].State != sign.Wrong {
			t.Errorf("%v: %v", args, list)
		}
	}
}

// minisign(1) of Debian verifies what we sign, also with a key of ours that it
// decrypts, and signs what we verify.
func TestMinisignProgram(t *testing.T) {
	labtest.SkipIfShort(t)
	tool := filepath.Join(unpack(t, "minisign"), "usr/bin/minisign")
	env := []string{"LD_LIBRARY_PATH=" + filepath.Join(unpack(t, "libsodium23"), "usr/lib/x86_64-linux-gnu")}
	dir := t.TempDir()
	file := put(t, filepath.Join(dir, "m.ko"), module)
	g, err := sign.Generate(filepath.Join(dir, "ours"), "x", "")
	if err != nil {
		t.Fatal(err)
	}
	sig, err := readKey(t, g.Secret, "").SignMinisign(module, "update m")
	if err != nil {
		t.Fatal(err)
	}
	put(t, file+sign.MinisigSuffix, sig)
	if out := run(t, env, tool, "-V", "-H", "-p", g.Public, "-m", file); !strings.Contains(out, "update m") {
		t.Error(out)
	}
	run(t, env, tool, "-S", "-s", g.Secret, "-m", file, "-t", "theirs")
	sig, err = sign.ReadMinisig(file)
	if err != nil {
		t.Fatal(err)
	}
	p := trusted(t, "minisign", g.Public)
	list := sign.Examine(module, sig, p.Trust)
	if len(list) != 1 || list[0].State != sign.Trusted || list[0].Comment != "theirs" || p.Check(file, list) != nil {
		t.Errorf("%v", list)
	}
	// Over the whole of a file that the kernel's signature is in, as minisign(1)
	// sees it; not over a part of it.
	signed, err := readKey(t, g.Private, "").SignKernel(module, "")
	if err != nil {
		t.Fatal(err)
	}
	put(t, file, signed)
	run(t, env, tool, "-S", "-s", g.Secret, "-m", file)
	if sig, err = sign.ReadMinisig(file); err != nil {
		t.Fatal(err)
	}
	list = sign.Examine(signed, sig, p.Trust)
	if len(list) != 2 || list[1].State != sign.Trusted {
		t.Errorf("%v", list)
	}
	if list = sign.Examine(module, sig, p.Trust); len(list) != 1 || list[0].State != sign.Wrong {
		t.Errorf("%v", list)
	}
	g, err = sign.Generate(filepath.Join(dir, "secret"), "x", "sesame")
	if err != nil {
		t.Fatal(err)
	}
	k, err := sign.ReadKey(g.Private, "", func(string) (string, error) { return "sesame", nil })
	if err != nil || k.Kind != sign.Kernel {
		t.Error(err)
	}
	cmd := exec.Command(tool, "-S", "-s", g.Secret, "-m", file)
	cmd.Env, cmd.Stdin = append(os.Environ(), env...), strings.NewReader("sesame\n")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	run(t, env, tool, "-V", "-p", g.Public, "-m", file)
}

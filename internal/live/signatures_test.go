// SPDX-License-Identifier: Apache-2.0

package live

import (
	"context"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"math/big"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/lupatch/lupatch/internal/lab"
	"github.com/lupatch/lupatch/internal/refuse"
	"github.com/lupatch/lupatch/internal/sample"
	"github.com/lupatch/lupatch/internal/sign"
)

// opsKeys are the keys of somebody, made as users make them.
func opsKeys(t testing.TB, who string) sign.Generated {
	t.Helper()
	base := made.get(t, "keys-"+who, func(_ context.Context, dir string) (string, error) {
		base := filepath.Join(dir, who)
		_, err := sign.Generate(base, who, "")
		return base, err
	})
	return sign.Generated{Secret: base + ".key", Public: base + ".pub", Private: base + ".pem", Certificate: base + ".der"}
}

// signed appends a module signature to a module.
func signed(t testing.TB, module []byte, keys sign.Generated) []byte {
	t.Helper()
	k, err := sign.ReadKey(keys.Private, "", nil)
	if err != nil {
		t.Fatal(err)
	}
	out, err := k.SignKernel(module, "")
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// putSigned brings an update with both signatures into the guest.
func (g guest) putSigned(u built, keys sign.Generated) string {
	g.t.Helper()
	k, err := sign.ReadKey(keys.Secret, "", nil)
	if err != nil {
		g.t.Fatal(err)
	}
	minisig, err := k.SignMinisign(u.image, "")
	if err != nil {
		g.t.Fatal(err)
	}
	path := g.put(signed(g.t, u.image, keys), "/root/"+u.name+"-signed.ko")
	g.put(minisig, path+sign.MinisigSuffix)
	return path
}

// untouched wants a host on which there is nothing of an update.
func (g guest) untouched(name string) {
	g.t.Helper()
	g.wantStatus("")
	g.wantLoaded(name, false)
	g.sh("! ls /var/lib/lupatch/updates/*/* 2>/dev/null")
	g.sh("! grep 'followed by' /proc/crypto")
}

// A kernel that takes only modules signed with a key that it has: an update
// without a signature is refused before anything is done, one with another key by
// the kernel, and nothing is left of either.
func TestKernelEnforcesSignatures(t *testing.T) {
	u, stranger := update(t, "crypto"), opsKeys(t, "stranger")
	for i, c := range []struct{ word, why, says string }{
		{"lockdown=integrity", "locked down (integrity)", "locked down (integrity)"},
		{"lockdown=confidentiality", "locked down (confidentiality)", "locked down (confidentiality)"},
		{"module.sig_enforce=1", "module.sig_enforce", "does not accept its signature"},
	} {
		t.Run(c.word, func(t *testing.T) {
			sample.OneOf(t, "enforced", i, 3)
			t.Parallel()
			g := boot(t, lab.Config{Cmdline: []string{c.word}})
			g.refused(refuse.SignatureMissing, []string{"the kernel takes only modules signed", c.why}, "apply", g.file(u))
			g.sh("! ls /var/lib/lupatch/journal 2>/dev/null")
			g.untouched(u.name)
			path := g.putSigned(u, stranger)
			g.put(g.read(stranger.Certificate), sign.TrustedDir+"/stranger.der")
			if text := string(g.lupatchText("verify", path)); !strings.Contains(text, "the kernel does not have its key") {
				t.Error(text)
			}
			g.refused(refuse.LoadRefused, []string{c.says}, "apply", path)
			g.untouched(u.name)
			// What had begun was undone.
			g.sh(`tail -n 1 /var/lib/lupatch/journal | grep -q '"aborted"'`)
			if text := string(g.lupatchText("doctor")); !strings.Contains(text, c.why) {
				t.Error(text)
			}
			readable(g, c.word)
		})
	}
}

// readable tries all that lupatch reads of a kernel: no lockdown closes it. What
// the modes do close are file systems for tracing and debugging.
func readable(g guest, mode string) {
	g.t.Helper()
	for _, line := range []string{
		"cat /proc/1/stack | grep -q '+0x'", "grep -qE '^(-1|0|1)$' /proc/1/patch_state",
		"grep -E '^[0-9a-f]+ T schedule$' /proc/kallsyms | grep -qv '^0000000000000000'",
		"grep -qE 'Live 0x[0-9a-f]*[1-9a-f]' /proc/modules", "dd if=/dev/kmsg of=/dev/null bs=8k count=1",
		"[ $(head -c 9 /sys/kernel/btf/vmlinux | wc -c) = 9 ] && [ $(head -c 9 /sys/kernel/notes | wc -c) = 9 ]",
	} {
		g.sh(line)
	}
	open := map[string]bool{
		"grep -q . /sys/kernel/tracing/available_filter_functions": mode != "lockdown=confidentiality",
		"grep -q . /sys/kernel/debug/dynamic_debug/control":        mode == "module.sig_enforce=1",
		"grep -q . /proc/dynamic_debug/control":                    true,
	}
	for line, want := range open {
		if r, err := g.Sh(g.t.Context(), line); err != nil || (r.Code == 0) != want {
			g.t.Errorf("%s: %v, %v; want %v", line, r, err, want)
		}
	}
}

// With the certificate in the firmware's signature database the kernel has the
// key, with and without Secure Boot, and takes the update, locked down as it is.
func TestTrustedKey(t *testing.T) {
	u, keys := update(t, "crypto"), opsKeys(t, "ops")
	der := guest{nil, t}.read(keys.Certificate)
	old := expired(t)
	for name, c := range map[string]struct {
		conf lab.Config
		why  string
		more func(g guest)
	}{
		"Secure Boot": {lab.Config{UEFI: &lab.UEFI{DB: [][]byte{der}, SecureBoot: true}}, "locked down (integrity)", func(g guest) {
			if !strings.Contains(g.Console(), "Kernel is locked down from EFI Secure Boot") {
				g.t.Error("this is no Secure Boot")
			}
		}},
		"database": {lab.Config{UEFI: &lab.UEFI{DB: [][]byte{der, old.cert}}, Cmdline: []string{"lockdown=confidentiality", "module.sig_enforce=1"}}, "locked down (confidentiality)", func(g guest) {
			g.run("expired certificate", func(g guest) {
				image, err := old.key.SignKernel(u.image, "")
				if err != nil {
					g.t.Fatal(err)
				}
				g.sh("rm -r /etc/lupatch")
				g.succeed(&struct{}{}, "apply", g.put(image, "/root/expired.ko"))
				g.rollback()
			})
			g.run("second name", func(g guest) { secondName(g, keys) })
		}},
	} {
		t.Run(name, func(t *testing.T) {
			if name != "Secure Boot" {
				sample.OnlyThorough(t, "with Secure Boot the firmware trusts the same key")
			}
			t.Parallel()
			g := boot(t, c.conf)
			g.refused(refuse.SignatureMissing, []string{c.why}, "apply", g.file(u))
			path := g.putSigned(u, keys)
			g.put([]byte("require = both\n"), sign.PolicyPath)
			g.refused(refuse.SignatureUntrusted, []string{"kernel signature"}, "apply", path)
			g.put(der, sign.TrustedDir+"/ops.der")
			g.refused(refuse.SignatureUntrusted, []string{"minisign signature"}, "apply", path)
			g.put(g.read(keys.Public), sign.TrustedDir+"/ops.pub")
			g.untouched(u.name)
			g.sh("! ls /var/lib/lupatch/journal 2>/dev/null")
			if text := string(g.lupatchText("verify", path)); !strings.Contains(text, "the kernel has its key") || !strings.Contains(text, "accepted") {
				t.Error(text)
			}
			g.succeed(&struct{}{}, "apply", path)
			g.wantStatus("lupatch_crypto applied")
			g.sh("grep -q 'followed by' /proc/crypto")
			// The kernel found nothing missing (E), and the store can be asked again.
			g.sh("! grep '^lupatch_crypto.*(.*E.*)' /proc/modules && lupatch verify /var/lib/lupatch/updates/*/lupatch_crypto.ko")
			g.rollback()
			g.untouched(u.name)
			c.more(g)
		})
	}
}

// secondName refuses to rename a module whose first copy has to stay: its
// signature covers the name.
func secondName(g guest, keys sign.Generated) {
	g.insmod(g.put(signed(g.t, g.read(target(g.t)), keys), "/root/lutarget.ko"))
	work := g.putSigned(update(g.t, "work"), keys)
	g.succeed(&struct{}{}, "apply", work)
	if r := g.rollback(); r.Resident == "" {
		g.t.Fatalf("%+v", r)
	}
	g.refused(refuse.LoadRefused, []string{"lupatch_work__2", "breaks its signature", "confidentiality"}, "apply", work)
	g.wantStatus("lupatch_work resident")
}

// Where lupatch sees only some tasks it changes nothing; without type
// information it does all it does with it.
func TestNamespaceAndNoBTF(t *testing.T) {
	t.Parallel()
	u := update(t, "crypto")
	g := boot(t, lab.Config{})
	file := g.file(u)
	for _, how := range []string{"unshare -p -f --mount-proc=/proc ", "unshare -p -f "} {
		g.sh(how + "lupatch apply " + file + " >/root/text 2>&1; [ $? = 3 ] && grep -q 'refused (pid-namespace)' /root/text")
		g.untouched(u.name)
	}
	g.sh("mount -t tmpfs none /sys/kernel/btf && [ ! -e /sys/kernel/btf/vmlinux ]")
	g.apply(u)
	g.wantStatus("lupatch_crypto applied")
	g.sh("grep -q 'followed by' /proc/crypto")
	g.sh("unshare -p -f --mount-proc=/proc lupatch rollback >/root/text 2>&1; [ $? = 3 ] && grep -q 'refused (pid-namespace)' /root/text")
	g.wantStatus("lupatch_crypto applied")
	g.rollback()
	g.untouched(u.name)
}

// dated is a key whose certificate is out of date.
type dated struct {
	key  *sign.Key
	cert []byte
}

func expired(t testing.TB) dated {
	t.Helper()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(7), Subject: pkix.Name{CommonName: "expired"}, SubjectKeyId: []byte("expired"),
		NotBefore: time.Now().AddDate(-3, 0, 0), NotAfter: time.Now().AddDate(-2, 0, 0), BasicConstraintsValid: true, KeyUsage: x509.KeyUsageDigitalSignature}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return dated{sign.NewKernelKey(key, cert), der}
}

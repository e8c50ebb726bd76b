// SPDX-License-Identifier: Apache-2.0

package kpatch

import (
	"crypto/x509"
	"encoding/hex"
	"fmt"
	"os"
	"regexp"
)

// reX509 is how /proc/keys shows a certificate: subject, then its subject key
// identifier, or without one its serial number, then the kind of key
// (crypto/asymmetric_keys/x509_public_key.c).
var reX509 = regexp.MustCompile(`(?m): ([0-9a-f]+): X509\.`)

// HasKey says whether the kernel has the key of a certificate in any of its
// keyrings; known is false if the keys cannot be seen, which takes root outside of
// containers. That the kernel has a key does not say what it trusts it for.
func (k *Kernel) HasKey(c *x509.Certificate) (has, known bool, err error) {
	b, err := os.ReadFile(k.Path("/proc/keys"))
	if os.IsNotExist(err) {
		return false, false, nil // no CONFIG_KEYS
	}
	if err != nil {
		return false, false, fmt.Errorf("reading the kernel's keys: %w", err)
	}
	want := hex.EncodeToString(c.SubjectKeyId)
	if want == "" {
		// As it is encoded: with a leading zero if the first bit is set.
		want = hex.EncodeToString(c.SerialNumber.Bytes())
		if c.SerialNumber.BitLen()%8 == 0 {
			want = "00" + want
		}
	}
	for _, m := range reX509.FindAllSubmatch(b, -1) {
		known = true
		if string(m[1]) == want {
			return true, true, nil
		}
	}
	return false, known, nil
}

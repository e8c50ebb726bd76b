// SPDX-License-Identifier: Apache-2.0

package sign

import (
	"crypto"
	"crypto/x509"

	"github.com/lupatch/lupatch/internal/refuse"
)

// Keys are those that sign one update: at most one of each kind, as a file has
// room for one signature of each. Both may be nil.
type Keys struct {
	Kernel, Minisign *Key
}

// ReadKeys reads key files as ReadKey does. Two of one kind, or a certificate
// without a key for the kernel, are a refuse.KeyUnusable.
func ReadKeys(paths []string, certPath string, ask Password) (Keys, error) {
	var keys Keys
	for _, path := range paths {
		k, err := ReadKey(path, certPath, ask)
		if err != nil {
			return Keys{}, err
		}
		place := &keys.Minisign
		if k.Kind == Kernel {
			place = &keys.Kernel
		}
		if *place != nil {
			return Keys{}, refuse.New(refuse.KeyUnusable, path, "an update has one %s signature, and %s is for it already", k.Kind, (*place).path)
		}
		*place = k
	}
	if certPath != "" && keys.Kernel == nil {
		return Keys{}, refuse.New(refuse.KeyUnusable, certPath, "there is a certificate, but no private key in PEM that it could belong to")
	}
	return keys, nil
}

// Exposed are sentences on key files that others can read.
func (k Keys) Exposed() []string {
	var out []string
	for _, key := range []*Key{k.Kernel, k.Minisign} {
		if key != nil && key.Exposed != "" {
			out = append(out, key.Exposed)
		}
	}
	return out
}

// NewKernelKey makes a Kernel key of an RSA or ECDSA signer, which need not be in
// a file, and its certificate.
func NewKernelKey(signer crypto.Signer, cert *x509.Certificate) *Key {
	return &Key{Kind: Kernel, Name: Certificate{"", cert}.Name(), signer: signer, cert: cert}
}

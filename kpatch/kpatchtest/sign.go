// SPDX-License-Identifier: Apache-2.0

package kpatchtest

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"math/big"
	"sync"
	"time"

	"github.com/lupatch/lupatch/internal/sign"
)

// key is made anew by every program.
var key = sync.OnceValues(func() (*sign.Key, []byte) {
	secret, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(err)
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "kpatchtest"}, NotAfter: time.Now().AddDate(1, 0, 0)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, secret.Public(), secret)
	must(err)
	cert, err := x509.ParseCertificate(der)
	must(err)
	return sign.NewKernelKey(secret, cert), der
})

// Sign appends a module signature to file.
func Sign(file []byte) []byte {
	k, _ := key()
	out, err := k.SignKernel(file, "")
	must(err)
	return out
}

// Certificate is that of Sign's key, in DER.
func Certificate() []byte {
	_, der := key()
	return der
}

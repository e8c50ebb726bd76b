// SPDX-License-Identifier: Apache-2.0

package sign

import (
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"math/big"
	"os"
	"slices"
	"time"

	"aead.dev/minisign"
	"github.com/youmark/pkcs8"

	"github.com/lupatch/lupatch/internal/refuse"
)

// Generated names the files of a pair of keys.
type Generated struct {
	// Secret and Public are a minisign key pair.
	Secret string `json:"minisign_secret"`
	Public string `json:"minisign_public"`
	// Private holds an RSA key with its certificate, Certificate (DER) the latter
	// alone: for the kernel (mokutil --import) and for TrustedDir.
	Private     string `json:"kernel_private"`
	Certificate string `json:"kernel_certificate"`
}

const (
	rsaBits = 4096
	// validity is what the kernel's documentation proposes (module-signing.rst);
	// the kernel does not look at dates.
	validity = 36500 * 24 * time.Hour
	// clockSkew makes a certificate valid on hosts whose clock is behind.
	clockSkew = 24 * time.Hour
)

// oidModuleSigning limits a key to modules: shim then does not take it for
// programs that boot (shim's README names the number).
var oidModuleSigning = asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 2312, 16, 1, 2}

// Generate writes a new minisign key pair and a new RSA key with a self-signed
// certificate whose subject is name. Secret keys are encrypted with password
// unless it is empty, and only the owner can read them. The files are called
// base.key, base.pub, base.pem and base.der; it is a refuse.KeyUnusable if one of
// them exists.
func Generate(base, name, password string) (*Generated, error) {
	g := &Generated{base + ".key", base + ".pub", base + ".pem", base + ".der"}
	for _, path := range []string{g.Secret, g.Public, g.Private, g.Certificate} {
		if _, err := os.Lstat(path); err == nil {
			e := refuse.New(refuse.KeyUnusable, path, "it exists, and might be a key in use")
			e.Remedy = "choose another name"
			return nil, e
		} else if !errors.Is(err, fs.ErrNotExist) {
			return nil, err
		}
	}
	public, secret, err := generateMinisign(password)
	if err != nil {
		return nil, fmt.Errorf("making a minisign key: %w", err)
	}
	private, cert, err := generateRSA(name, password)
	if err != nil {
		return nil, fmt.Errorf("making a key for the kernel: %w", err)
	}
	for _, f := range []struct {
		path string
		text []byte
		mode os.FileMode
	}{{g.Secret, secret, 0o600}, {g.Public, public, 0o644}, {g.Private, private, 0o600}, {g.Certificate, cert, 0o644}} {
		if err := create(f.path, f.text, f.mode); err != nil {
			return nil, err
		}
	}
	return g, nil
}

func generateMinisign(password string) (public, secret []byte, err error) {
	pub, key, err := minisign.GenerateKey(rand.Reader)
	if err != nil {
		return nil, nil, err
	}
	if public, err = pub.MarshalText(); err != nil {
		return nil, nil, err
	}
	if password == "" {
		secret, err = key.MarshalText()
	} else {
		secret, err = minisign.EncryptKey(password, key)
	}
	return append(public, '\n'), append(secret, '\n'), err
}

func generateRSA(name, password string) (private, cert []byte, err error) {
	key, err := rsa.GenerateKey(rand.Reader, rsaBits)
	if err != nil {
		return nil, nil, err
	}
	const serialBits = 128
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), serialBits))
	if err != nil {
		return nil, nil, err
	}
	now := time.Now().UTC()
	c := template(name, serial, now.Add(-clockSkew), now.Add(validity))
	// By it the kernel names its keys, in /proc/keys and in messages.
	id := sha256.Sum256(x509.MarshalPKCS1PublicKey(&key.PublicKey))
	const keyIDSize = 20
	c.SubjectKeyId, c.AuthorityKeyId = id[:keyIDSize], id[:keyIDSize]
	if cert, err = x509.CreateCertificate(rand.Reader, c, c, key.Public(), key); err != nil {
		return nil, nil, err
	}
	block := &pem.Block{Type: "PRIVATE KEY"}
	if password == "" {
		block.Bytes, err = x509.MarshalPKCS8PrivateKey(key)
	} else {
		block.Type = "ENCRYPTED PRIVATE KEY"
		block.Bytes, err = pkcs8.MarshalPrivateKey(key, []byte(password), nil)
	}
	if err != nil {
		return nil, nil, err
	}
	return slices.Concat(pem.EncodeToMemory(block), pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert})), cert, nil
}

// template is a certificate as the kernel's own build makes one for modules
// (certs/default_x509.genkey), limited to them.
func template(name string, serial *big.Int, from, to time.Time) *x509.Certificate {
	return &x509.Certificate{
		SerialNumber: serial, Subject: pkix.Name{CommonName: name},
		NotBefore: from, NotAfter: to,
		KeyUsage:              x509.KeyUsageDigitalSignature,
		ExtKeyUsage:           []x509.ExtKeyUsage{x509.ExtKeyUsageCodeSigning},
		UnknownExtKeyUsage:    []asn1.ObjectIdentifier{oidModuleSigning},
		BasicConstraintsValid: true,
		SignatureAlgorithm:    x509.SHA256WithRSA,
	}
}

func create(path string, text []byte, mode os.FileMode) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, mode)
	if err != nil {
		return err
	}
	if _, err := f.Write(text); err != nil {
		f.Close()
		return err
	}
	return f.Close()
}

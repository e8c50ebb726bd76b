// SPDX-License-Identifier: Apache-2.0

package sign

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"path/filepath"
	"strings"

	"aead.dev/minisign"
	"github.com/youmark/pkcs8"

	"github.com/lupatch/lupatch/internal/refuse"
)

// Key is a secret key that signs updates.
type Key struct {
	Kind Kind
	// Name is what a person calls it: a key identifier, or the certificate's name.
	Name string
	// Exposed says that others could read the file; else empty.
	Exposed string

	path     string
	minisign minisign.PrivateKey
	signer   crypto.Signer
	cert     *x509.Certificate
}

// Password asks for the password of a key file.
type Password func(path string) (string, error)

// ReadKey reads a secret key. What it is shows in its content: PEM is a key
// for the kernel, whose certificate is in the file certPath (PEM or DER), or in
// the same file if certPath is empty; anything else should be minisign's. ask is
// called if the key is encrypted. It is a refuse.KeyUnusable if the file is none
// of these, or password or certificate do not fit.
func ReadKey(path, certPath string, ask Password) (*Key, error) {
	text, err := readBounded(path)
	if err != nil {
		return nil, at(refuse.KeyUnusable, path, err)
	}
	k := &Key{path: path, Exposed: exposed(path, 0o077, "read")}
	if bytes.Contains(text, []byte("-----BEGIN ")) {
		k.Kind = Kernel
		err = k.readPEM(text, certPath, ask)
	} else {
		k.Kind = Minisign
		err = k.readMinisign(text, ask)
	}
	if _, ok := refuse.As(err); err != nil && !ok {
		err = at(refuse.KeyUnusable, path, err)
	}
	if err != nil {
		return nil, err
	}
	return k, nil
}

func (k *Key) readMinisign(text []byte, ask Password) error {
	var err error
	if minisign.IsEncrypted(text) {
		var password string
		if password, err = ask(k.path); err != nil {
			return err
		}
		if k.minisign, err = minisign.DecryptKey(password, text); err != nil {
			return errors.New("the password is wrong, or the key is damaged")
		}
	} else if err = k.minisign.UnmarshalText(text); err != nil {
		return errors.New("it is neither a private key in PEM nor a minisign secret key")
	}
	k.Name = "key " + keyID(k.minisign.ID())
	return nil
}

func (k *Key) readPEM(text []byte, certPath string, ask Password) error {
	for rest := text; k.signer == nil; {
		var b *pem.Block
		if b, rest = pem.Decode(rest); b == nil {
			return errors.New("it has no private key that could be read")
		}
		if !strings.HasSuffix(b.Type, "PRIVATE KEY") {
			continue
		}
		if err := k.readPrivate(b, ask); err != nil {
			return err
		}
	}
	where := k.path
	if certPath != "" {
		var err error
		where = certPath
		if text, err = readBounded(certPath); err != nil {
			return at(refuse.KeyUnusable, certPath, err)
		}
	}
	list, err := parseCertificates(text)
	if err != nil {
		e := refuse.New(refuse.KeyUnusable, where, "the kernel names a signer by its certificate: %s", err)
		if certPath == "" {
			e.Remedy = "give the certificate that belongs to the key with --cert"
		}
		return e
	}
	for _, c := range list {
		if pub, ok := k.signer.Public().(interface{ Equal(crypto.PublicKey) bool }); ok && pub.Equal(c.PublicKey) {
			k.cert, k.Name = c, Certificate{where, c}.Name()
			return nil
		}
	}
	return refuse.New(refuse.KeyUnusable, where, "its certificate is for another key than %s", filepath.Base(k.path))
}

func (k *Key) readPrivate(b *pem.Block, ask Password) error {
	var key any
	var err error
	switch {
	case b.Headers["DEK-Info"] != "":
		return errors.New("it is encrypted the way of OpenSSL before 1.0, which is not secure; convert it with `openssl pkcs8 -topk8`")
	case b.Type == "RSA PRIVATE KEY":
		key, err = x509.ParsePKCS1PrivateKey(b.Bytes)
	case b.Type == "EC PRIVATE KEY":
		key, err = x509.ParseECPrivateKey(b.Bytes)
	case b.Type == "ENCRYPTED PRIVATE KEY":
		var password string
		if password, err = ask(k.path); err != nil {
			return err
		}
		if key, err = pkcs8.ParsePKCS8PrivateKey(b.Bytes, []byte(password)); err != nil {
			return errors.New("the password is wrong, or the key is damaged")
		}
	default:
		key, err = x509.ParsePKCS8PrivateKey(b.Bytes)
	}
	if err != nil {
		return fmt.Errorf("its private key cannot be read: %w", err)
	}
	switch key := key.(type) {
	case *rsa.PrivateKey:
		k.signer = key
	case *ecdsa.PrivateKey:
		// P-521 came with Linux 6.10 only, P-224 never (crypto/ecdsa.c).
		if c := key.Curve; c != elliptic.P256() && c != elliptic.P384() {
			return fmt.Errorf("of ECDSA keys the kernel verifies those on P-256 and P-384, and this is on %s", c.Params().Name)
		}
		k.signer = key
	default:
		return fmt.Errorf("the kernel verifies signatures of RSA and ECDSA keys, and this is neither (%T)", key)
	}
	return nil
}

// ECDSA says whether the key is one that not every kernel can verify.
func (k *Key) ECDSA() bool {
	_, ok := k.signer.(*ecdsa.PrivateKey)
	return ok
}

// SignKernel appends a module signature with a Kernel key; one that is there is
// replaced. digest is the kernel's CONFIG_MODULE_SIG_HASH; DefaultDigest stands in
// for one that is not SHA-2, and for none. The kernel takes any that it has.
func (k *Key) SignKernel(file []byte, digest string) ([]byte, error) {
	body, _, err := Split(file)
	if err != nil {
		return nil, refuse.New(refuse.SignatureWrong, "", "%s", err)
	}
	der, err := makePKCS7(body, k.signer, k.cert, digestFor(digest))
	if err != nil {
		return nil, refuse.New(refuse.KeyUnusable, k.path, "%s", err)
	}
	return join(body, der), nil
}

// SignMinisign gives the content of NAME.ko.minisig, with a Minisign key.
// comment is covered by the signature.
func (k *Key) SignMinisign(file []byte, comment string) ([]byte, error) {
	body, _, err := Split(file)
	if err != nil {
		return nil, refuse.New(refuse.SignatureWrong, "", "%s", err)
	}
	return minisigOf(body, k.minisign, comment), nil
}

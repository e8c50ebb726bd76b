// SPDX-License-Identifier: Apache-2.0

package sign

import (
	"bytes"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"aead.dev/minisign"

	"github.com/lupatch/lupatch/internal/refuse"
)

// Trust is what a host trusts: the content of TrustedDir.
type Trust struct {
	PublicKeys   []PublicKey
	Certificates []Certificate
	// Ignored are files that are neither, by their names.
	Ignored []string
	// Exposed are sentences on files that others could alter.
	Exposed []string
}

// PublicKey is a minisign key and the file it came from.
type PublicKey struct {
	File string
	Key  minisign.PublicKey
}

// Certificate is an X.509 certificate and the file it came from. The name is
// all that the signature has of it, so that it counts by itself: who issued it
// does not matter, and no certificate that it issued is trusted.
type Certificate struct {
	File string
	*x509.Certificate
}

// Name is what a person calls it.
func (c Certificate) Name() string {
	name := c.Subject.CommonName
	if name == "" {
		name = c.Subject.String()
	}
	return fmt.Sprintf("%q, serial number %x", printable(name), c.SerialNumber)
}

// readTrust reads a folder of keys: *.pub are minisign's, *.pem, *.crt, *.cer and
// *.der certificates; a folder that is not there holds none. It is a
// refuse.PolicyWrong if one of them cannot be read: what is trusted must not
// depend on what happens to be readable.
func readTrust(dir string) (*Trust, error) {
	t := new(Trust)
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return t, nil
	}
	if err != nil {
		return nil, at(refuse.PolicyWrong, dir, err)
	}
	t.expose(dir)
	for _, e := range entries {
		path := filepath.Join(dir, e.Name())
		ext := filepath.Ext(e.Name())
		if strings.HasPrefix(e.Name(), ".") || e.IsDir() {
			continue
		}
		var read func(path string, text []byte) error
		switch ext {
		case ".pub":
			read = t.addPublicKey
		case ".pem", ".crt", ".cer", ".der":
			read = t.addCertificates
		default:
			t.Ignored = append(t.Ignored, path)
			continue
		}
		text, err := readSmall(path)
		if err == nil {
			err = read(path, text)
		}
		if err != nil {
			return nil, at(refuse.PolicyWrong, path, err)
		}
		t.expose(path)
	}
	return t, nil
}

func (t *Trust) expose(path string) {
	if s := exposed(path, 0o022, "written"); s != "" {
		t.Exposed = append(t.Exposed, s)
	}
}

func (t *Trust) addPublicKey(path string, text []byte) error {
	var k minisign.PublicKey
	if err := k.UnmarshalText(text); err != nil {
		return errors.New("it is not a minisign public key: " + strings.TrimPrefix(err.Error(), "minisign: "))
	}
	t.PublicKeys = append(t.PublicKeys, PublicKey{path, k})
	return nil
}

func (t *Trust) addCertificates(path string, text []byte) error {
	list, err := parseCertificates(text)
	if err != nil {
		return err
	}
	for _, c := range list {
		t.Certificates = append(t.Certificates, Certificate{path, c})
	}
	return nil
}

// ReadCertificates reads a file of certificates, PEM or DER; there is at least one.
// Else it is a refuse.KeyUnusable.
func ReadCertificates(path string) ([]*x509.Certificate, error) {
	text, err := readSmall(path)
	if err != nil {
		return nil, at(refuse.KeyUnusable, path, err)
	}
	list, err := parseCertificates(text)
	if err != nil {
		return nil, at(refuse.KeyUnusable, path, err)
	}
	return list, nil
}

// parseCertificates reads PEM or DER. There is at least one.
func parseCertificates(text []byte) ([]*x509.Certificate, error) {
	if !bytes.Contains(text, []byte("-----BEGIN ")) {
		c, err := x509.ParseCertificate(text)
		if err != nil {
			return nil, errors.New("it is not an X.509 certificate, neither PEM nor DER")
		}
		return []*x509.Certificate{c}, nil
	}
	var list []*x509.Certificate
	for {
		var b *pem.Block
		if b, text = pem.Decode(text); b == nil {
			break
		}
		if b.Type != "CERTIFICATE" {
			continue
		}
		c, err := x509.ParseCertificate(b.Bytes)
		if err != nil {
			return nil, fmt.Errorf("a certificate in it cannot be read: %w", err)
		}
		list = append(list, c)
	}
	// A block that ends too soon leaves its first line.
	if len(list) == 0 || bytes.Contains(text, []byte("-----BEGIN CERTIFICATE")) {
		return nil, errors.New("it has no certificate, or one that is not whole")
	}
	return list, nil
}

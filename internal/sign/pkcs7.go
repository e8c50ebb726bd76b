// SPDX-License-Identifier: Apache-2.0

package sign

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/rsa"
	_ "crypto/sha256" // the digests that signatures name
	_ "crypto/sha512"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"errors"
	"fmt"
	"math/big"
	"slices"
)

// The kernel takes a narrow part of PKCS#7 (RFC 2315; crypto/asymmetric_keys:
// pkcs7.asn1, pkcs7_parser.c, pkcs7_verify.c): data that is not in the message, no
// signed attributes, and as the algorithm of the signature plain rsaEncryption,
// or ECDSA with the name of the digest. Libraries for PKCS#7 and CMS name
// sha256WithRSAEncryption, add attributes, or read more than the kernel does; this
// is just that part.
type contentInfo struct {
	Type    asn1.ObjectIdentifier
	Content asn1.RawValue `asn1:"optional,explicit,tag:0"`
}

type signedData struct {
	Version      int
	Digests      []pkix.AlgorithmIdentifier `asn1:"set"`
	Content      contentInfo
	Certificates asn1.RawValue `asn1:"optional,tag:0"`
	CRLs         asn1.RawValue `asn1:"optional,tag:1"`
	Signers      []signerInfo  `asn1:"set"`
}

type signerInfo struct {
	Version int
	// ID is an issuerAndSerial, or [0] a subject key identifier.
	ID         asn1.RawValue
	Digest     pkix.AlgorithmIdentifier
	Attributes asn1.RawValue `asn1:"optional,tag:0"`
	Algorithm  pkix.AlgorithmIdentifier
	Signature  []byte
	Unsigned   asn1.RawValue `asn1:"optional,tag:1"`
}

type issuerAndSerial struct {
	Issuer asn1.RawValue
	Serial *big.Int
}

// outer is a contentInfo whose content is signedData; encoding/asn1 does not
// write a structure into a RawValue.
type outer struct {
	Type    asn1.ObjectIdentifier
	Content signedData `asn1:"explicit,tag:0"`
}

var (
	oidData       = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 7, 1}
	oidSignedData = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 7, 2}
	oidRSA        = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 1, 1}
	oidNames      = asn1.ObjectIdentifier{2, 5, 4}
)

// digestAlgorithm is one by the kernel's name, with its own identifier and that of
// ECDSA with it.
type digestAlgorithm struct {
	name       string
	hash       crypto.Hash
	oid, ecdsa asn1.ObjectIdentifier
}

// digests are those that both the kernel and its users take; SHA-1 is out.
var digests = []digestAlgorithm{
	{"sha224", crypto.SHA224, asn1.ObjectIdentifier{2, 16, 840, 1, 101, 3, 4, 2, 4}, asn1.ObjectIdentifier{1, 2, 840, 10045, 4, 3, 1}},
	{"sha256", crypto.SHA256, asn1.ObjectIdentifier{2, 16, 840, 1, 101, 3, 4, 2, 1}, asn1.ObjectIdentifier{1, 2, 840, 10045, 4, 3, 2}},
	{"sha384", crypto.SHA384, asn1.ObjectIdentifier{2, 16, 840, 1, 101, 3, 4, 2, 2}, asn1.ObjectIdentifier{1, 2, 840, 10045, 4, 3, 3}},
	{"sha512", crypto.SHA512, asn1.ObjectIdentifier{2, 16, 840, 1, 101, 3, 4, 2, 3}, asn1.ObjectIdentifier{1, 2, 840, 10045, 4, 3, 4}},
}

// DefaultDigest is what a kernel gets that names none of them: sha256 is in every
// kernel with module signatures.
const DefaultDigest = "sha256"

// digestFor gives a digest by the kernel's name.
func digestFor(name string) digestAlgorithm {
	i := slices.IndexFunc(digests, func(d digestAlgorithm) bool { return d.name == name })
	if i < 0 {
		return digestFor(DefaultDigest)
	}
	return digests[i]
}

// makePKCS7 signs body.
func makePKCS7(body []byte, key crypto.Signer, cert *x509.Certificate, d digestAlgorithm) ([]byte, error) {
	algorithm := pkix.AlgorithmIdentifier{Algorithm: oidRSA, Parameters: asn1.NullRawValue}
	if _, ok := key.Public().(*ecdsa.PublicKey); ok {
		algorithm = pkix.AlgorithmIdentifier{Algorithm: d.ecdsa}
	}
	h := d.hash.New()
	h.Write(body)
	signature, err := key.Sign(rand.Reader, h.Sum(nil), d.hash)
	if err != nil {
		return nil, err
	}
	id, err := asn1.Marshal(issuerAndSerial{asn1.RawValue{FullBytes: cert.RawIssuer}, cert.SerialNumber})
	if err != nil {
		return nil, err
	}
	digest := pkix.AlgorithmIdentifier{Algorithm: d.oid, Parameters: asn1.NullRawValue}
	return asn1.Marshal(outer{oidSignedData, signedData{
		Version: 1,
		Digests: []pkix.AlgorithmIdentifier{digest},
		Content: contentInfo{Type: oidData},
		Signers: []signerInfo{{Version: 1, ID: asn1.RawValue{FullBytes: id}, Digest: digest, Algorithm: algorithm, Signature: signature}},
	}})
}

// parsePKCS7 reads the signers of a message that the kernel would take. The
// error is a sentence.
func parsePKCS7(der []byte) ([]signerInfo, error) {
	var msg outer
	rest, err := asn1.Unmarshal(der, &msg)
	switch {
	case err != nil:
		return nil, fmt.Errorf("it is not PKCS#7 signed data (%w)", err)
	case len(rest) > 0:
		return nil, fmt.Errorf("%d bytes follow the PKCS#7 message", len(rest))
	case !msg.Type.Equal(oidSignedData):
		return nil, errors.New("it is PKCS#7, but not signed data")
	case !msg.Content.Content.Type.Equal(oidData) || len(msg.Content.Content.Content.FullBytes) > 0:
		return nil, errors.New("it signs something within itself, not the module")
	case len(msg.Content.Signers) == 0:
		return nil, errors.New("nobody signed it")
	}
	for _, s := range msg.Content.Signers {
		if len(s.Attributes.FullBytes) > 0 {
			return nil, errors.New("it has signed attributes, which the kernel does not take for modules")
		}
	}
	return msg.Content.Signers, nil
}

// is says whether the signer means this certificate.
func (s *signerInfo) is(c *x509.Certificate) bool {
	if s.ID.Class == asn1.ClassContextSpecific {
		return s.ID.Tag == 0 && len(s.ID.Bytes) > 0 && bytes.Equal(s.ID.Bytes, c.SubjectKeyId)
	}
	id, err := s.issuer()
	return err == nil && bytes.Equal(id.Issuer.FullBytes, c.RawIssuer) && id.Serial.Cmp(c.SerialNumber) == 0
}

func (s *signerInfo) issuer() (id issuerAndSerial, err error) {
	if rest, err := asn1.Unmarshal(s.ID.FullBytes, &id); err != nil || len(rest) > 0 || id.Serial == nil {
		return id, errors.New("it does not name its signer")
	}
	return id, nil
}

// name is what a person calls the signer.
func (s *signerInfo) name() string {
	if s.ID.Class == asn1.ClassContextSpecific {
		return fmt.Sprintf("the key %x", s.ID.Bytes)
	}
	id, err := s.issuer()
	if err != nil {
		return "an unknown signer"
	}
	var seq pkix.RDNSequence
	if rest, err := asn1.Unmarshal(id.Issuer.FullBytes, &seq); err != nil || len(rest) > 0 {
		return fmt.Sprintf("serial number %x", id.Serial)
	}
	return fmt.Sprintf("a certificate of %q, serial number %x", printable(commonName(seq)), id.Serial)
}

// commonName is the most telling part of a distinguished name.
func commonName(seq pkix.RDNSequence) string {
	const attributeCN = 3
	for _, set := range seq {
		for _, a := range set {
			if s, ok := a.Value.(string); ok && a.Type.Equal(append(oidNames[:len(oidNames):len(oidNames)], attributeCN)) {
				return s
			}
		}
	}
	return seq.String()
}

// check verifies the signature of body with the key of a certificate. The error
// is a sentence.
func (s *signerInfo) check(body []byte, c *x509.Certificate) error {
	for _, d := range digests {
		if !d.oid.Equal(s.Digest.Algorithm) {
			continue
		}
		h := d.hash.New()
		h.Write(body)
		ok := false
		switch key := c.PublicKey.(type) {
		case *rsa.PublicKey:
			if !s.Algorithm.Algorithm.Equal(oidRSA) {
				return errors.New("its algorithm is not called rsaEncryption, the only name the kernel takes for RSA")
			}
			ok = rsa.VerifyPKCS1v15(key, d.hash, h.Sum(nil), s.Signature) == nil
		case *ecdsa.PublicKey:
			if !s.Algorithm.Algorithm.Equal(d.ecdsa) {
				return errors.New("its algorithm is not ECDSA with the digest it names")
			}
			ok = ecdsa.VerifyASN1(key, h.Sum(nil), s.Signature)
		}
		if !ok {
			return errors.New("it is not one of this file: the file was altered, or the signature belongs to another")
		}
		return nil
	}
	return fmt.Errorf("its digest algorithm %s is not one of SHA-2", s.Digest.Algorithm)
}

// verifyKernel says what a module signature is worth. Several signers may have
// signed; as with the kernel one that is trusted is enough, and one that is wrong
// spoils it.
func verifyKernel(body, der []byte, t *Trust) Signature {
	signers, err := parsePKCS7(der)
	if err != nil {
		return Signature{Kind: Kernel, State: Wrong, Detail: err.Error()}
	}
	out := Signature{Kind: Kernel, State: Untrusted, Key: signers[0].name()}
	for i := range signers {
		for _, c := range t.Certificates {
			if !signers[i].is(c.Certificate) {
				continue
			}
			if err := signers[i].check(body, c.Certificate); err != nil {
				return Signature{Kind: Kernel, State: Wrong, Key: c.Name(), Detail: err.Error()}
			}
			out = Signature{Kind: Kernel, State: Trusted, Key: c.Name(), TrustedBy: c.File}
		}
	}
	return out
}

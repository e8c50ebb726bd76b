// SPDX-License-Identifier: Apache-2.0

package lab

import (
	"bytes"
	"crypto/x509"
	"debug/pe"
	"encoding/asn1"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
)

// kernelSigners are the certificates (DER) that the signature of a kernel image
// brings along: in the firmware's database they let that kernel boot, without a
// loader such as shim that would know its distribution.
func kernelSigners(vmlinuz string) ([][]byte, error) {
	image, err := os.ReadFile(vmlinuz)
	if err != nil {
		return nil, err
	}
	signature, err := authenticode(image)
	if err != nil {
		return nil, fmt.Errorf("reading the signature of %s: %w", vmlinuz, err)
	}
	// PKCS#7 signed data, as far as the certificates.
	var message struct {
		Type    asn1.ObjectIdentifier
		Content struct {
			Version      int
			Digests      asn1.RawValue
			Content      asn1.RawValue
			Certificates asn1.RawValue `asn1:"optional,tag:0"`
			Signers      asn1.RawValue
		} `asn1:"explicit,tag:0"`
	}
	if _, err := asn1.Unmarshal(signature, &message); err != nil {
		return nil, fmt.Errorf("reading the signature of %s: %w", vmlinuz, err)
	}
	list, err := x509.ParseCertificates(message.Content.Certificates.Bytes)
	if err != nil {
		return nil, fmt.Errorf("reading the certificates of %s: %w", vmlinuz, err)
	}
	var out [][]byte
	for _, c := range list {
		out = append(out, c.Raw)
	}
	return out, nil
}

// authenticode finds the signature of a PE image: the security directory is a
// place in the file and has entries of length, revision, kind and content
// (Microsoft's "PE Format", attribute certificate table).
func authenticode(image []byte) ([]byte, error) {
	const securityDirectory, header, pkcs7 = 4, 8, 2
	f, err := pe.NewFile(bytes.NewReader(image))
	if err != nil {
		return nil, err
	}
	defer f.Close()
	h, ok := f.OptionalHeader.(*pe.OptionalHeader64)
	if !ok {
		return nil, errors.New("it is not a 64-bit UEFI program")
	}
	d := h.DataDirectory[securityDirectory]
	at, n := uint64(d.VirtualAddress), uint64(d.Size)
	if n < header || at+n > uint64(len(image)) {
		return nil, errors.New("it is not signed")
	}
	entry := image[at : at+n]
	length := binary.LittleEndian.Uint32(entry)
	if kind := binary.LittleEndian.Uint16(entry[6:]); length <= header || uint64(length) > n || kind != pkcs7 {
		return nil, errors.New("its signature is of another kind")
	}
	return entry[header:length], nil
}

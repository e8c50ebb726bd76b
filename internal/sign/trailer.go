// SPDX-License-Identifier: Apache-2.0

package sign

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
)

// A signed module ends in the signature, a struct module_signature
// (include/linux/module_signature.h) and a line of text. Of the structure's twelve
// bytes the third is the kind, the last four are the signature's length, big
// endian; all others are 0 for PKCS#7 (kernel/module_signature.c).
const (
	magic      = "~Module signature appended~\n"
	headerSize = 12
	kindOffset = 2
	sizeOffset = 8
	pkcs7Kind  = 2 // PKEY_ID_PKCS7
)

// Appended says whether a file ends as a signed module does. The signature may
// yet make no sense.
func Appended(file []byte) bool { return bytes.HasSuffix(file, []byte(magic)) }

// Split takes a file apart into module and PKCS#7 message; der is nil if the
// file is not signed. The error says in a sentence why what is appended cannot be
// a signature. It never panics, whatever the bytes are.
func Split(file []byte) (body, der []byte, err error) {
	if !Appended(file) {
		return file, nil, nil
	}
	rest := file[:len(file)-len(magic)]
	if len(rest) <= headerSize {
		return nil, nil, errors.New("the module signature was truncated")
	}
	head := rest[len(rest)-headerSize:]
	rest = rest[:len(rest)-headerSize]
	n := uint64(binary.BigEndian.Uint32(head[sizeOffset:]))
	if n == 0 || n >= uint64(len(rest)) {
		return nil, nil, fmt.Errorf("the module signature claims %d bytes, of %d there are", n, len(rest))
	}
	if head[kindOffset] != pkcs7Kind {
		return nil, nil, fmt.Errorf("the module signature is of kind %d, the kernel knows only %d (PKCS#7)", head[kindOffset], pkcs7Kind)
	}
	for i, b := range head[:sizeOffset] {
		if i != kindOffset && b != 0 {
			return nil, nil, errors.New("the module signature has an impossible header")
		}
	}
	cut := len(rest) - int(n)
	if Appended(rest[:cut]) {
		return nil, nil, errors.New("two module signatures are appended; the kernel would look at the last only")
	}
	return rest[:cut:cut], rest[cut:], nil
}

// join is the opposite of Split.
func join(body, der []byte) []byte {
	head := make([]byte, headerSize)
	head[kindOffset] = pkcs7Kind
	binary.BigEndian.PutUint32(head[sizeOffset:], uint32(len(der)))
	return slices.Concat(body, der, head, []byte(magic))
}

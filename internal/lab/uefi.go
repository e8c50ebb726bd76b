// SPDX-License-Identifier: Apache-2.0

package lab

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"time"
	"unicode/utf16"
)

// UEFI lets a host boot through UEFI firmware (EDK II's OVMF, from the package
// ovmf, which need not be installed) instead of QEMU's own loader. It costs some
// 20 s under emulation.
type UEFI struct {
	// DB are certificates (DER) in the firmware's signature database: kernels
	// with CONFIG_LOAD_UEFI_KEYS take them into their platform keyring.
	DB [][]byte
	// SecureBoot lets the firmware start only what is signed by one of DB, to which
	// the kernel's own signers are added. The kernel locks itself down then, if it
	// is built to.
	SecureBoot bool
}

const (
	uefiPackage = "ovmf"
	// uefiBootTimeout is DefaultBootTimeout and as much for the firmware, which
	// the emulator runs without much of a cache.
	uefiBootTimeout = 3 * time.Minute
)

// firmware are the files of a host's firmware: its code, which is shared, and its
// variables, which are the host's own.
type firmware struct{ code, vars string }

// prepareFirmware writes the variables into the folder tmp.
func (c *Config) prepareFirmware(ctx context.Context, tmp string) (*firmware, error) {
	if c.UEFI == nil {
		return nil, nil
	}
	versions, err := c.Cache.Versions(ctx, uefiPackage)
	if err != nil {
		return nil, err
	}
	if len(versions) == 0 {
		return nil, fmt.Errorf("looking for UEFI firmware: no package source carries %s", uefiPackage)
	}
	dir, err := c.Cache.Unpack(ctx, uefiPackage, versions[0])
	if err != nil {
		return nil, err
	}
	dir = filepath.Join(dir, "usr/share/OVMF")
	code, db := "OVMF_CODE_4M.fd", c.UEFI.DB
	if c.UEFI.SecureBoot {
		code = "OVMF_CODE_4M.secboot.fd"
		signers, err := kernelSigners(c.Kernel.Vmlinuz())
		if err != nil {
			return nil, err
		}
		db = slices.Concat(db, signers)
	}
	store, err := os.ReadFile(filepath.Join(dir, "OVMF_VARS_4M.fd"))
	if err != nil {
		return nil, fmt.Errorf("reading UEFI firmware: %w", err)
	}
	if err := addVariables(store, variables(db, c.UEFI.SecureBoot)); err != nil {
		return nil, fmt.Errorf("writing UEFI variables: %w", err)
	}
	f := &firmware{filepath.Join(dir, code), filepath.Join(tmp, "uefi-variables")}
	return f, os.WriteFile(f.vars, store, 0o600)
}

// args are QEMU's arguments for it.
func (f *firmware) args(secure bool) []string {
	args := []string{
		"-drive", "if=pflash,format=raw,unit=0,readonly=on,file=" + escape(f.code),
		"-drive", "if=pflash,format=raw,unit=1,file=" + escape(f.vars),
	}
	if secure {
		// Only code in system management mode writes variables.
		args = append(args, "-global", "driver=cfi.pflash01,property=secure,value=on")
	}
	return args
}

// guid is one as memory has it: the first three fields little endian.
type guid [16]byte

// The identifiers and layouts below are those of the UEFI specification (8.2,
// variables; 32.4, signature lists) and of EDK II's variable store
// (MdeModulePkg/Include/Guid/VariableFormat.h).
var (
	guidFlash     = guid{0x8d, 0x2b, 0xf1, 0xff, 0x96, 0x76, 0x8b, 0x4c, 0xa9, 0x85, 0x27, 0x47, 0x07, 0x5b, 0x4f, 0x50} // EFI_SYSTEM_NV_DATA_FV
	guidStore     = guid{0x78, 0x2c, 0xf3, 0xaa, 0x7b, 0x94, 0x9a, 0x43, 0xa1, 0x80, 0x2e, 0x14, 0x4e, 0xc3, 0x77, 0x92} // EFI_AUTHENTICATED_VARIABLE
	guidImageDB   = guid{0xcb, 0xb2, 0x19, 0xd7, 0x3a, 0x3d, 0x96, 0x45, 0xa3, 0xbc, 0xda, 0xd0, 0x0e, 0x67, 0x65, 0x6f} // EFI_IMAGE_SECURITY_DATABASE
	guidGlobal    = guid{0x61, 0xdf, 0xe4, 0x8b, 0xca, 0x93, 0xd2, 0x11, 0xaa, 0x0d, 0x00, 0xe0, 0x98, 0x03, 0x2b, 0x8c} // EFI_GLOBAL_VARIABLE
	guidX509      = guid{0xa1, 0x59, 0xc0, 0xa5, 0xe4, 0x94, 0xa7, 0x4a, 0x87, 0xb5, 0xab, 0x15, 0x5c, 0x2b, 0xf0, 0x72} // EFI_CERT_X509
	guidSigner    = guid{'l', 'u', 'p', 'a', 't', 'c', 'h'}                                                              // who put a certificate there
	erasedFlash   = byte(0xff)
	variableStart = uint16(0x55aa)
)

// variable is one that keeps its value.
type variable struct {
	name   string
	vendor guid
	data   []byte
}

// variables are those of a firmware that trusts db. A platform key and a key
// exchange key make it enforce that; nobody uses them afterwards.
func variables(db [][]byte, secure bool) []variable {
	list := []variable{{"db", guidImageDB, signatureLists(db)}}
	if secure {
		owner := signatureLists(db[:1])
		list = append(list, variable{"KEK", guidGlobal, owner}, variable{"PK", guidGlobal, owner})
	}
	return list
}

// signatureLists are certificates, each in an EFI_SIGNATURE_LIST of its own, as
// its entries have one size.
func signatureLists(certs [][]byte) []byte {
	const listHeader = 28
	var b bytes.Buffer
	for _, der := range certs {
		entry := len(guid{}) + len(der)
		b.Write(guidX509[:])
		binary.Write(&b, binary.LittleEndian, [3]uint32{uint32(listHeader + entry), 0, uint32(entry)})
		b.Write(guidSigner[:])
		b.Write(der)
	}
	return b.Bytes()
}

// addVariables writes variables into an empty variable store, as OVMF's package
// has one: the header of the flash volume, that of the store, then variables.
func addVariables(flash []byte, list []variable) error {
	const (
		lengthOffset = 48 // of the flash volume's header
		storeHeader  = 28
		// EFI_VARIABLE_NON_VOLATILE, _BOOTSERVICE_ACCESS, _RUNTIME_ACCESS and
		// _TIME_BASED_AUTHENTICATED_WRITE_ACCESS
		attributes = 0x27
		added      = 0x3f // VAR_ADDED
	)
	if len(flash) < lengthOffset+2 || !bytes.Equal(flash[16:32], guidFlash[:]) {
		return fmt.Errorf("the package has no flash volume for variables")
	}
	at := int(binary.LittleEndian.Uint16(flash[lengthOffset:]))
	if len(flash) < at+storeHeader || !bytes.Equal(flash[at:at+16], guidStore[:]) {
		return fmt.Errorf("the package has no store of authenticated variables")
	}
	end := at + int(binary.LittleEndian.Uint32(flash[at+16:]))
	at += storeHeader
	for _, v := range list {
		at = (at + 3) &^ 3
		name := utf16.Encode([]rune(v.name + "\x00"))
		var b bytes.Buffer
		for _, field := range []any{variableStart, uint8(added), uint8(0), uint32(attributes), uint64(0), [16]byte{}, uint32(0),
			uint32(2 * len(name)), uint32(len(v.data)), v.vendor, name, v.data} {
			binary.Write(&b, binary.LittleEndian, field)
		}
		if at+b.Len() > min(end, len(flash)) || flash[at] != erasedFlash {
			return fmt.Errorf("there is no room for %s", v.name)
		}
		at += copy(flash[at:], b.Bytes())
	}
	return nil
}

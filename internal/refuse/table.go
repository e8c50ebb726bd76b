// SPDX-License-Identifier: Apache-2.0

package refuse

import (
	"fmt"
	"slices"
)

// The refusals. The documentation's table is made from Table.
const (
	PatchMalformed     ID = "patch-malformed"
	PatchDoesNotApply  ID = "patch-does-not-apply"
	PatchScope         ID = "patch-scope"
	HeaderScope        ID = "header-scope"
	NothingChanged     ID = "nothing-changed"
	OnlyInit           ID = "only-init-changed"
	NoFtraceSite       ID = "no-ftrace-site"
	StructLayout       ID = "struct-layout"
	EnumValue          ID = "enum-value"
	DataChanged        ID = "data-changed"
	DataWrite          ID = "data-write"
	AuthorNote         ID = "author-note"
	ExportCRC          ID = "export-crc"
	Signature          ID = "signature"
	LateKey            ID = "late-key"
	SpecialSection     ID = "special-section"
	SealedFunction     ID = "sealed-function"
	Undecodable        ID = "undecodable"
	UnresolvedSymbol   ID = "unresolved-symbol"
	AmbiguousSymbol    ID = "ambiguous-symbol"
	SymposUnstable     ID = "sympos-unstable"
	RunPreMismatch     ID = "run-pre-mismatch"
	SourceUnavailable  ID = "source-unavailable"
	CompilerMismatch   ID = "compiler-mismatch"
	CompileFailed      ID = "compile-failed"
	NotAnUpdate        ID = "not-an-update"
	WrongRelease       ID = "wrong-kernel-release"
	WrongVersion       ID = "wrong-version"
	WrongUnit          ID = "wrong-unit-binary"
	ForeignLivepatch   ID = "foreign-livepatch"
	FunctionConflict   ID = "function-conflict"
	AlreadyApplied     ID = "already-applied"
	NotApplied         ID = "not-applied"
	NotNewest          ID = "not-newest"
	LoadRefused        ID = "load-refused"
	NotPermitted       ID = "not-permitted"
	NoLivepatch        ID = "no-livepatch"
	EarlierUpdate      ID = "earlier-update"
	TransitionReversed ID = "transition-reversed"
	UnloadUnsafe       ID = "unload-unsafe"
	KernelBusy         ID = "kernel-busy"
	NeverQuiet         ID = "never-quiet"
	Barred             ID = "barred"
	Unfinished         ID = "unfinished-change"
	SignatureMissing   ID = "signature-missing"
	SignatureUntrusted ID = "signature-untrusted"
	SignatureWrong     ID = "signature-wrong"
	PolicyWrong        ID = "policy-wrong"
	KeyUnusable        ID = "key-unusable"
	PIDNamespace       ID = "pid-namespace"
	HealthCheck        ID = "health-check"
	ShadowMissing      ID = "shadow-missing"
	DeviceUnfit        ID = "device-unfit"
	DriverFailed       ID = "driver-failed"
	NoCapture          ID = "no-capture"
	NoDevice           ID = "no-device"
)

// Entry documents one refusal.
type Entry struct {
	ID     ID
	Cause  string
	Remedy string
}

// Table lists every refusal in the order of the documentation.
var Table = slices.Concat(general, drivers)

var general = []Entry{
	{PatchMalformed, "the file is not a unified diff that can be read", "make the patch with `git diff` or `diff -u`"},
	{PatchDoesNotApply, "a hunk does not match the source of this kernel version", "rebase the patch on the source named in the message"},
	{PatchScope, "the patch touches a kind of file that no livepatch can carry (Kconfig, Makefile, assembly, a file that the configuration does not build)", "leave those files out, or boot a new kernel"},
	{HeaderScope, "a changed header alters the code of more files than may be compiled, or is used for more than compiling C", "move the change into the .c files, or give --max-units"},
	{NothingChanged, "the patch applies, but no machine code differs", "check that the changed code is enabled in this kernel's configuration"},
	{OnlyInit, "only code that has already run and been freed (__init) differs", "the change takes effect at the next boot or module load; no livepatch can help"},
	{NoFtraceSite, "a changed function has no ftrace site, so calls to it cannot be redirected, and not all that uses it can be replaced instead (its address is taken, or assembly, init code of a module or too many files call it)", "change its callers instead, or boot a new kernel"},
	{StructLayout, "the layout of a structure changed that code or data outside the patch uses", "keep the layout and attach new data with a shadow variable (klp_shadow_alloc), or replace the whole driver"},
	{EnumValue, "a constant of an enumeration has another number, and memory of the running kernel may hold the old one", "put new constants behind the existing ones, only before the one that counts them"},
	{DataChanged, "the initial value of existing data changed; the running kernel already holds the old value", "set the value in a livepatch callback, or keep the data and change the code"},
	{DataWrite, "a variable's new value cannot be written the way --data asks for", "write it in a callback (KPATCH_PRE_PATCH_CALLBACK), or keep the running value with --data VAR=keep"},
	{AuthorNote, "a macro of kpatch-macros.h is used in a way that cannot be carried out", "see the macro's description in patchgen/include/kpatch-macros.h"},
	{ExportCRC, "the interface of an exported symbol changed (its checksum, CRC), and modules or files that use it are not part of the patch", "change all that use it in the same patch, or keep the prototype and the types it names (a new function may have another name)"},
	{Signature, "what a function takes or gives changed, and files that call it are not part of the patch, declare it otherwise, or call it from code that is not replaced (a module's __init)", "change all that call it in the same patch, with a declaration in a header that all include, or give the new function another name"},
	{LateKey, "an alternative, or a static key that cannot be read instead, belongs to a patched module and would be resolved after the kernel has already applied it", "test the key with static_key_enabled() in the changed function"},
	{SpecialSection, "changed code adds an entry to a section that a livepatch cannot register", "leave that construct out of the patch"},
	{SealedFunction, "new code takes the address of a function that the kernel has sealed against indirect calls (IBT): a call through the pointer would fault on processors that enforce it", "take the address of a new function of the patch that calls it"},
	{Undecodable, "an instruction that has to be understood to convert a relocation cannot be decoded", "report the function; no livepatch is built on a guess"},
	{UnresolvedSymbol, "a symbol that changed code needs is neither exported nor in the symbol table of the running binary", "check that source and binary are the same version"},
	{AmbiguousSymbol, "several symbols have this name and the placement does not tell which one is meant", "report the function; no livepatch is built on a guess"},
	{SymposUnstable, "the position of a symbol among its namesakes differs between a module that is loading and one that is live", "load the module before the update, or rename the symbol"},
	{RunPreMismatch, "what this source, configuration and compiler produce is not what the distribution ships", "use the compiler, configuration and source version of the running kernel"},
	{SourceUnavailable, "no source, headers or image of this kernel release could be found", "add the package source that carries them, or give --source"},
	{CompilerMismatch, "the compiler is not the one the kernel was built with", "install the compiler version named in the message"},
	{CompileFailed, "a translation unit does not compile", "see the compiler's messages"},
	{NotAnUpdate, "the file is not a readable lupatch update", "build it again with `lupatch build`, or check how it was copied"},
	{WrongRelease, "the update was built for another kernel release", "build it for the running kernel"},
	{WrongVersion, "a unit is not at the version that the update needs", "apply the missing updates first"},
	{WrongUnit, "a unit's binary is not the one the update was verified against", "build the update against the installed binary"},
	{ForeignLivepatch, "a livepatch that is not lupatch's own replaces the same function", "disable it first, or leave that function out"},
	{FunctionConflict, "another update replaces the same function and this one was not built on it", "build on top of it, or roll it back first"},
	{EarlierUpdate, "the change needs something that only an earlier update has, and that a second one cannot share with it", "roll the earlier update back and put both changes into one"},
	{AlreadyApplied, "the update is already in the kernel", "nothing to do"},
	{NotApplied, "no such update is in the kernel", "see `lupatch status`"},
	{NotNewest, "later updates stand on this one", "roll those back first, newest first, or all of them with --yes"},
	{LoadRefused, "the kernel refused to load the update", "see the kernel's messages in the detail"},
	{NotPermitted, "this needs root (CAP_SYS_MODULE)", "run it as root, outside containers that drop the capability"},
	{NoLivepatch, "this kernel has no livepatch support", "boot a kernel with CONFIG_LIVEPATCH=y"},
	{TransitionReversed, "tasks kept using code that is being replaced until the deadline, so the update was taken back", "see the tasks named, or give a longer --deadline"},
	{UnloadUnsafe, "code or data of the update may still be reached, so its module stays in memory", "nothing: it is disabled and harmless; it goes with the next boot"},
	{KernelBusy, "a transition of another livepatch is still running; the kernel does one at a time", "wait until `lupatch status` shows it done, or see there which tasks hold it up"},
	{NeverQuiet, "there was no moment in which no task was in a function that is replaced", "apply it without --wait-quiet, which waits for each task by itself, or see `lupatch plan` for who is always in there"},
	{Barred, "the update has brought this host down, or was rolled back by its probation, twice", "find out why; `lupatch recover --unbar NAME` allows it again"},
	{Unfinished, "an earlier change was interrupted, or waits for tasks, and is neither in force nor taken back", "run `lupatch recover`, which completes it or takes it back"},
	{SignatureMissing, "the host's policy requires a signature that the update does not have", "have it signed (`lupatch sign FILE.ko --key KEY`), and keep NAME.ko.minisig beside it; or alter /etc/lupatch/policy"},
	{SignatureUntrusted, "the host's policy requires a signature, and the update's is by a key that is not in /etc/lupatch/trusted.d", "put the signer's public key or certificate there if you trust it, or have the update signed by one that is there"},
	{SignatureWrong, "a signature of the update cannot be read, or is not one of this file; refused whatever the policy says, as the kernel does", "get the update and its signature anew from where they come, both of the same build"},
	{PolicyWrong, "the host's policy file or a key it trusts cannot be read or understood; it is not taken for a policy that requires nothing", "correct the file named, see `lupatch verify --help`"},
	{KeyUnusable, "a key or certificate to sign with cannot be used", "see the reason; `lupatch sign --generate NAME` makes keys"},
	{PIDNamespace, "lupatch runs in a PID namespace, where it sees only some of the host's tasks and could not say which of them use code that is replaced", "run it on the host itself (nsenter --target 1 --pid --mount)"},
	{HealthCheck, "a health check fails before anything is loaded, so that it could not tell what the update does", "repair what it complains of, or leave the check out"},
	{ShadowMissing, "the kernel module lupatch_shadow, which stands in for a driver while it is replaced, is not there or of another version", "see `lupatch shadow --help`"},
	{DeviceUnfit, "something about a device or its driver cannot be carried over to another driver", "see the reason; nothing was stopped, or it works as before"},
	{DriverFailed, "the new driver does not do what the old one did, so that the old one was brought back", "see the reason, and the kernel's log"},
	{NoCapture, "configuration cannot be captured: the kernel lacks what the programs need, or the BPF file system is not mounted", "see the lines for `watch` in `lupatch doctor`; drivers can be replaced without, but for requests that cannot be read back"},
	{NoDevice, "no device is bound to a driver or module of that name", "see `lupatch instances` for those that are"},
}

// Describe gives the documentation of id. It panics on an unknown one.
func Describe(id ID) Entry {
	for _, e := range Table {
		if e.ID == id {
			return e
		}
	}
	panic(fmt.Sprintf("refuse: no entry for %q", id))
}

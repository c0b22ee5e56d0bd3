; The commands on COM1. Each is answered by one line: a word, then key=value pairs.

run_command:
        mov bx, commands
.next:  mov di, [bx]
        test di, di
        jz .unknown
        mov si, line
.compare:
        mov al, [di]
        cmp al, [si]
        jne .other
        inc di
        inc si
        test al, al
        jnz .compare
        dec si                          ; at the NUL of a command without an argument
        jmp [bx + 2]
.other: test al, al                     ; the whole name matched, and an argument follows
        jnz .skip
        cmp byte [si], ' '
        jne .skip
        inc si
        jmp [bx + 2]
.skip:  add bx, 4
        jmp .next
.unknown:
        say "error reason=unknown-command"
        jmp print_newline

commands:
        dw .status, status_command
        dw .read, read_command
        dw .write, write_command
        dw .off, power_off
        dw 0
.status: db "status", 0
.read:   db "read", 0
.write:  db "write", 0
.off:    db "off", 0

status_command:
        say "status"
print_status:
        say " nonce="
        mov si, parameters.nonce
        call print_name
        say " counter="
        mov eax, [counter]
        call print_decimal
        call print_record_fields
        call print_tpm
        call print_nic
        jmp print_newline

read_command:
        say "read"
        call print_record_fields
        jmp print_newline

; SI: the word. The answer comes from the disk or the variable, not from memory.
write_command:
        call record_read
        jc .failed
        call set_word
        jc .bad_word
        inc dword [record.writes]
        call record_write
        jc .failed
        say "written"
        call print_record_fields
        jmp print_newline
.bad_word:
        say "error reason=bad-word"
        jmp print_newline
.failed:
        say "error reason=", RECORD_STORE, " status=0x"
        mov al, [record_status]
        call print_hex
        jmp print_newline

; Read the record, and print it.
print_record_fields:
        call record_read
        jc .failed
        say " ", RECORD_STORE, "="
        mov si, record.nonce
        call print_name
        say " word="
        mov si, record.word
        call print_name
        say " boots="
        mov eax, [record.boots]
        call print_decimal
        say " writes="
        mov eax, [record.writes]
        jmp print_decimal
.failed:
        say " ", RECORD_STORE, "=error:0x"
        mov al, [record_status]
        jmp print_hex

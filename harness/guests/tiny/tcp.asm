; TCP (RFC 9293): an echo (RFC 862) at port 7, for one connection at a time. A segment is answered at once, with its data:
; the sender must wait for that before it sends more, as nothing is kept to be sent again. A segment of a connection that
; the guest does not know, because it was started anew, is answered with a reset.

TCP_ECHO        equ 0x0700              ; port 7, its high byte first
TCP_WINDOW      equ 0x0004              ; 1024 bytes, the high byte first: less than a buffer
TCP_OURS        equ 0x1000              ; what our sequence numbers are ahead of theirs
FIN             equ 1
SYN             equ 2
RST             equ 4
PSH             equ 8
ACK             equ 16

; ESI: a frame with a whole IPv4 packet to this address, EBX: bytes of its IPv4 header, ECX: bytes of the frame.
tcp_received:
        lea edi, [esi + ebx + 14]
        sub ecx, ebx
        sub ecx, 14
        cmp ecx, 20
        jb .ignored
        cmp word [edi + 2], TCP_ECHO
        jne .ignored
        movzx eax, byte [edi + 12]
        shr al, 4
        shl al, 2                       ; AL: bytes of its header
        cmp al, 20
        jb .ignored
        sub ecx, eax                    ; ECX: bytes of its data
        jb .ignored
        mov ah, [edi + 13]              ; AH: flags
        mov edx, [edi + 4]
        bswap edx                       ; EDX: sequence number
        test ah, RST
        jnz .ignored
        test ah, SYN
        jnz .open
        mov ebp, [esi + 26]
        cmp ebp, [tcp_peer]
        jne .unknown
        mov ebp, [edi]
        cmp ebp, [tcp_ports]
        jne .unknown
        cmp al, 20                      ; no options were agreed on
        jne .ignored
        mov ebp, [tcp_sent]
        jecxz .no_data
        cmp edx, [tcp_received_up_to]
        je .data
        add edx, ecx
        cmp edx, [tcp_received_up_to]
        jne .ignored
        sub ebp, ecx                    ; a repetition: the answer was lost
        jmp .echo
.data:  add [tcp_received_up_to], ecx
        add [tcp_sent], ecx
.echo:  mov ah, PSH | ACK
        jmp tcp_answer
.no_data:
        test ah, FIN
        jz .ignored
        cmp edx, [tcp_received_up_to]
        jne .ignored
        inc dword [tcp_received_up_to]
        mov dword [tcp_peer], 0
        mov ah, FIN | ACK
        jmp tcp_answer
.open:  lea ebp, [edx + TCP_OURS]       ; the same number, if theirs is a repetition
        mov [tcp_sent], ebp
        inc dword [tcp_sent]
        inc edx
        mov [tcp_received_up_to], edx
        mov eax, [esi + 26]
        mov [tcp_peer], eax
        mov eax, [edi]
        mov [tcp_ports], eax
        xor ecx, ecx
        mov ah, SYN | ACK
        jmp tcp_answer
.unknown:
        jecxz .ignored
        xor ecx, ecx
        mov ebp, [edi + 8]              ; what they have acknowledged
        bswap ebp
        mov ah, RST
        jmp tcp_answer
.ignored:
        ret

; Answer the segment at EDI with the flags in AH, the sequence number in EBP, and the ECX bytes of its own data.
tcp_answer:
        bswap ebp
        mov [edi + 4], ebp
        mov edx, [tcp_received_up_to]
        bswap edx
        mov [edi + 8], edx
        rol dword [edi], 16             ; exchange the ports
        mov byte [edi + 12], 20 << 2
        mov [edi + 13], ah
        mov word [edi + 14], TCP_WINDOW
        mov dword [edi + 16], 0         ; checksum, urgent pointer
        add ecx, 20
        lea eax, [ecx + ebx]
        xchg al, ah
        mov [esi + 16], ax
        mov byte [esi + 22], 64         ; time to live
        mov word [esi + 24], 0
        mov eax, [esi + 26]
        xchg eax, [esi + 30]
        mov [esi + 26], eax

        push edi
        push ecx
        lea edi, [esi + 14]
        mov ecx, ebx
        xor edx, edx
        call checksum_add
        call checksum_end
        mov [esi + 24], ax
        pop edx
        push edx
        xchg dl, dh
        add edx, 0x0600                 ; the pseudo header: length, protocol, addresses
        lea edi, [esi + 26]
        mov ecx, 8
        call checksum_add
        pop ecx
        pop edi
        push edi
        push ecx
        call checksum_add
        call checksum_end
        pop ecx
        pop edi
        mov [edi + 16], ax
        lea ecx, [ecx + ebx + 14]
        jmp frame_received.answer

; Add the ECX bytes at EDI to EDX, as numbers of 16 bits. EAX, ECX and EDI change.
checksum_add:
        cmp ecx, 2
        jb .last
        movzx eax, word [edi]
        add edx, eax
        add edi, 2
        sub ecx, 2
        jmp checksum_add
.last:  jecxz .done
        movzx eax, byte [edi]
        add edx, eax
.done:  ret

; AX: the checksum of the sum in EDX (RFC 1071).
checksum_end:
        mov eax, edx
        shr eax, 16
        movzx edx, dx
        add eax, edx
        mov edx, eax
        shr edx, 16
        add ax, dx
        not ax
        ret

        align 4
tcp_peer:               dd 0            ; 0: nobody is connected
tcp_ports:              dd 0            ; theirs and ours, as in their segments
tcp_received_up_to:     dd 0            ; the sequence number of what is expected next
tcp_sent:               dd 0            ; ours, of what is sent next

# SPDX-License-Identifier: GPL-2.0-or-later
# A classic BPF filter and a netlink socket.
import socket,struct,sys,os,time,ctypes
D=sys.argv[1]; os.chdir(D)
s=socket.socket(socket.AF_INET,socket.SOCK_DGRAM); s.bind(('127.0.0.1',0))
code=(ctypes.c_uint8*16).from_buffer_copy(struct.pack('HBBI',0x30,0,0,8)+struct.pack('HBBI',0x16,0,0,0xffff))  # ldb [8]; ret 65535
fp=struct.pack('HxxxxxxQ',2,ctypes.addressof(code)); s.setsockopt(1,26,fp)
n=socket.socket(16,3,0); n.bind((0,0)); n.setsockopt(270,1,1)
nn=n.getsockname()
open('ready','w').close()
while not os.path.exists('go'): time.sleep(0.02)
l=s.getsockopt(1,26,16); ok=len(l)>0 and n.getsockname()[0]==nn[0]
open('result','w').write('PASS' if ok else 'FAIL %r %r %r'%(l,n.getsockname(),nn))

# SPDX-License-Identifier: GPL-2.0-or-later
# Descriptors that only messages hold, also in circles; epoll sets.
import os,socket,struct,sys,time,array,select
D=sys.argv[1]; os.chdir(D)
fails=[]
def chk(n,a,b):
    if a!=b: fails.append('%s: got %r want %r'%(n,a,b))
def sendfds(s,data,fds): s.sendmsg([data],[(1,1,array.array('i',fds))])
def recvfds(s):
    m=s.recvmsg(100,10000); f=array.array('i')
    for l,t,d in m[1]:
        if t==1: f.frombytes(d[:len(d)//4*4])
    return m[0],list(f)
# both ends of a pair in flight, each in a different queue; one holds data with a further fd
a1,a2=socket.socketpair(); b1,b2=socket.socketpair(socket.AF_UNIX,socket.SOCK_DGRAM)
x,y=socket.socketpair(); x.send(b'to y'); 
r,w=os.pipe(); os.write(w,b'deep')
sendfds(y,b'fd for x',[r]); os.close(r)
sendfds(a1,b'X',[x.fileno()]); sendfds(b1,b'Y',[y.fileno()]); sendfds(b1,b'Y2',[y.fileno(),w]); x.close(); y.close(); os.close(w)
# epoll in flight, with a target in a table
e=select.epoll(); p,q=os.pipe(); e.register(p,select.EPOLLIN|select.EPOLLET)
ev=os.eventfd(5); sendfds(a1,b'E',[e.fileno(),ev]); os.close(ev); e.close()
# seqpacket with fds
s1,s2=socket.socketpair(socket.AF_UNIX,socket.SOCK_SEQPACKET); d=os.open('.',os.O_RDONLY); n=os.open('/dev/null',os.O_RDWR)
sendfds(s1,b'S',[d,n]); os.close(d); os.close(n)
# self reference: a socket in its own queue
z1,z2=socket.socketpair(); sendfds(z1,b'self',[z2.fileno()])
# many processes' children exit: ET reported already?
et=select.epoll(); pr,pw=os.pipe(); et.register(pr,select.EPOLLIN|select.EPOLLET); os.write(pw,b'1'); chk('et0',len(et.poll(0)),1); chk('et1',len(et.poll(0)),0)
one=select.epoll(); one.register(pr,select.EPOLLIN|select.EPOLLONESHOT); chk('one0',len(one.poll(0)),1)
lt=select.epoll(); lt.register(pr,select.EPOLLIN); lt.register(et,select.EPOLLIN)
ex=select.epoll(); ex.register(pr,select.EPOLLIN|select.EPOLLEXCLUSIVE)
open('ready','w').close()
while not os.path.exists('go'): time.sleep(0.02)
chk('et2',len(et.poll(0)),0); chk('one1',len(one.poll(0)),0); chk('lt',len(lt.poll(0)),1); chk('ex',len(ex.poll(0)),1)
os.write(pw,b'2'); chk('et3',len(et.poll(0)),1); chk('one2',len(one.poll(0)),0); one.modify(pr,select.EPOLLIN|select.EPOLLONESHOT); chk('one3',len(one.poll(0)),1)
m,f=recvfds(a2); chk('X',(m,len(f)),(b'X',1)); x=socket.socket(fileno=f[0])
m,f=recvfds(b2); chk('Y',(m,len(f)),(b'Y',1)); y=socket.socket(fileno=f[0])
m,f=recvfds(b2); chk('Y2',(m,len(f)),(b'Y2',2)); y2=socket.socket(fileno=f[0]); w=f[1]
chk('to y',y2.recv(10),b'to y'); y.send(b'back'); 
m,f=recvfds(x); chk('fd for x',(m,len(f)),(b'fd for x',1)); chk('deep',os.read(f[0],10),b'deep'); os.write(w,b'more'); chk('more',os.read(f[0],10),b'more'); os.close(w); chk('eof',os.read(f[0],10),b'')
chk('back',x.recv(10),b'back')
m,f=recvfds(a2); chk('E',(m,len(f)),(b'E',2)); e=select.epoll.fromfd(f[0]); chk('e0',e.poll(0),[]); os.write(q,b'!'); chk('e1',e.poll(0),[(p,1)]); chk('ev',os.eventfd_read(f[1]),5)
m,f=recvfds(s2); chk('S',(m,len(f)),(b'S',2)); chk('dir','ready' in os.listdir(f[0]),True); chk('null',os.read(f[1],1),b'')
m,f=recvfds(z2); chk('self',(m,len(f)),(b'self',1)); z1.send(b'zz'); chk('zz',os.read(f[0],5),b'zz')
open('result','w').write('PASS\n' if not fails else 'FAIL\n'+'\n'.join(fails)+'\n')
